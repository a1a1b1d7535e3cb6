//! Projectors, with which models process pictures and sounds: `--mmproj NAME=FILE`, or `[mmproj]`
//! in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::value::ValueError;

/// The projector of a model, or that the model has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mmproj {
    /// The model, by its name or as in `models`; `None` if there is only one model.
    pub(crate) model: Option<String>,
    /// `None`: no projector, even if there is one in the model's folder.
    pub(crate) file: Option<PathBuf>,
}

/// The value for no projector.
const NONE: &str = "none";

impl Mmproj {
    fn of(model: Option<&str>, file: &str) -> Result<Self, ValueError> {
        if file.is_empty() || model.is_some_and(|model| model.trim().is_empty()) {
            return Err(ValueError::Mmproj(file.to_owned()));
        }
        let file = (file != NONE).then(|| PathBuf::from(file));
        Ok(Self {
            model: model.map(str::to_owned),
            file,
        })
    }
}

/// Reads the table of a file.
pub(super) fn table<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Mmproj>>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(input)?;
    let all = table
        .into_iter()
        .map(|(model, file)| Mmproj::of(Some(&model), &file).map_err(serde::de::Error::custom));
    all.collect::<Result<_, _>>().map(Some)
}

impl FromStr for Mmproj {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some((model, file)) => Self::of(Some(model), file),
            None => Self::of(None, text),
        }
    }
}

impl fmt::Display for Mmproj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => file.display().fmt(f),
            None => f.write_str(NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_has_a_model_and_a_file_or_says_that_there_is_none() {
        let read = |text: &str| text.parse::<Mmproj>().map(|read| (read.model, read.file));
        let own = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("m:7b=a/mmproj.gguf"),
            Ok((own("m:7b"), Some("a/mmproj.gguf".into())))
        );
        assert_eq!(read("mmproj.gguf"), Ok((None, Some("mmproj.gguf".into()))));
        assert_eq!(read("m=none"), Ok((own("m"), None)));
        assert!(
            ["", "m=", "=mmproj.gguf"]
                .iter()
                .all(|bad| read(bad).is_err())
        );
    }
}
