//! LoRA adapters: each makes a model with its own name. `--lora NAME=BASE+FILE`, or `[lora."NAME"]`
//! in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::value::{ModelName, ValueError};

/// An adapter, its base model and the name of both together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lora {
    /// The model name for clients.
    pub(crate) name: String,
    /// The base model.
    pub(crate) base: ModelName,
    /// The adapter: a path, or a name in the model folder.
    pub(crate) file: ModelName,
    pub(crate) scale: f32,
}

/// An adapter in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: ModelName,
    file: ModelName,
    scale: Option<f32>,
}

impl Lora {
    fn of(name: &str, table: Table) -> Result<Self, ValueError> {
        let Table { base, file, scale } = table;
        let scale = scale.unwrap_or(1.0);
        // A `*` would be a pattern in an alias.
        if name.trim().is_empty() || name.contains('*') {
            return Err(ValueError::LoraName(name.to_owned()));
        }
        if !scale.is_finite() {
            return Err(ValueError::LoraScale(scale.to_string()));
        }
        Ok(Lora {
            name: name.to_owned(),
            base,
            file,
            scale,
        })
    }
}

/// Reads the tables of a file.
pub(super) fn tables<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Lora>>, D::Error> {
    let tables = BTreeMap::<String, Table>::deserialize(input)?;
    let loras = tables
        .into_iter()
        .map(|(name, table)| Lora::of(&name, table).map_err(D::Error::custom));
    loras.collect::<Result<_, _>>().map(Some)
}

impl FromStr for Lora {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts = text
            .split_once('=')
            .and_then(|(name, rest)| Some((name, rest.split_once('+')?)));
        let Some((name, (base, file))) =
            parts.filter(|(_, (base, file))| !base.is_empty() && !file.is_empty())
        else {
            return Err(ValueError::Lora(text.to_owned()));
        };
        // The text after the last `@` is the scale only if it is a number: file names may contain
        // `@`.
        let scaled = file
            .rsplit_once('@')
            .and_then(|(file, scale)| Some((file, scale.parse().ok()?)));
        let (file, scale) = scaled.map_or((file, None), |(file, scale)| (file, Some(scale)));
        Lora::of(
            name,
            Table {
                base: ModelName(base.to_owned()),
                file: ModelName(file.to_owned()),
                scale,
            },
        )
    }
}

impl fmt::Display for Lora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}+{}@{}",
            self.name, self.base.0, self.file.0, self.scale
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, String, String, f32) {
        let Lora {
            name,
            base,
            file,
            scale,
        } = text.parse().unwrap();
        (name, base.0, file.0, scale)
    }

    #[test]
    fn an_adapter_has_a_name_a_base_a_file_and_a_scale() {
        let own = |name: &str, base: &str, file: &str, scale| {
            (name.to_owned(), base.to_owned(), file.to_owned(), scale)
        };
        assert_eq!(
            read("my=smollm2:135m+a.gguf"),
            own("my", "smollm2:135m", "a.gguf", 1.0)
        );
        assert_eq!(
            read("my=m.gguf+a/b+c.gguf@0.5"),
            own("my", "m.gguf", "a/b+c.gguf", 0.5)
        );
        assert_eq!(read("my=m+a@home.gguf"), own("my", "m", "a@home.gguf", 1.0));
        for bad in [
            "my",
            "my=m",
            "my=+a",
            "my=m+",
            "=m+a",
            "m*=m+a",
            "my=m+a@inf",
        ] {
            assert!(bad.parse::<Lora>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_reads_as_the_same() {
        let lora: Lora = "my=m.gguf+a/b+c.gguf@0.5".parse().unwrap();
        assert_eq!(lora.to_string().parse(), Ok(lora));
    }
}
