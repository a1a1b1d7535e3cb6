//! What a person may hand to `loggia pull`: a short name, a repository on the hub, or a file on this machine.

use std::path::PathBuf;

use super::catalogue::{self, Known};

/// Where a model is to come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A short name from the catalogue.
    Known(&'static Known),
    /// `hf:OWNER/REPO[:FILE or QUANT]`.
    Hub { repo: Repo, pick: Option<String> },
    /// A GGUF file that is here already.
    File(PathBuf),
}

/// `OWNER/REPO`, checked: both become names of directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repo {
    pub(crate) owner: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Why a text names no source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("`{0}` is not OWNER/REPO; write hf:OWNER/REPO, hf:OWNER/REPO:Q4_K_M or hf:OWNER/REPO:FILE.gguf")]
    Repo(String),
    #[error(
        "`{name}` is no short name and no file here; the short names are {known}; \
         a repository on Hugging Face is written hf:OWNER/REPO[:FILE or QUANT]"
    )]
    Unknown { name: String, known: String },
}

impl Source {
    /// Reads what stands after `loggia pull`.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        if let Some(rest) = text.strip_prefix("hf:") {
            let (repo, pick) = match rest.split_once(':') {
                Some((repo, pick)) if !pick.is_empty() => (repo, Some(pick.to_owned())),
                Some((repo, _)) => (repo, None),
                None => (rest, None),
            };
            return Ok(Source::Hub { repo: Repo::parse(repo)?, pick });
        }
        if let Some(known) = catalogue::find(text) {
            return Ok(Source::Known(known));
        }
        let path = PathBuf::from(text);
        let named_like_a_file = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
        if named_like_a_file || path.is_file() {
            return Ok(Source::File(path));
        }
        let known = catalogue::KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
        Err(SourceError::Unknown { name: text.to_owned(), known })
    }
}

impl Repo {
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::Repo(text.to_owned());
        let (owner, name) = text.split_once('/').ok_or_else(wrong)?;
        if is_plain(owner) && is_plain(name) {
            Ok(Repo { owner: owner.to_owned(), name: name.to_owned() })
        } else {
            Err(wrong())
        }
    }
}

/// What the hub allows in names, and what is safe as one component of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 96
        && !name.starts_with('.')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(owner: &str, name: &str, pick: Option<&str>) -> Source {
        Source::Hub { repo: Repo { owner: owner.into(), name: name.into() }, pick: pick.map(str::to_owned) }
    }

    #[test]
    fn a_repository_may_name_a_file_or_a_quantisation() {
        assert_eq!(Source::parse("hf:o/r"), Ok(hub("o", "r", None)));
        assert_eq!(Source::parse("hf:o/r:"), Ok(hub("o", "r", None)));
        assert_eq!(Source::parse("hf:o/r:Q4_K_M"), Ok(hub("o", "r", Some("Q4_K_M"))));
        assert_eq!(Source::parse("hf:o/r:sub/m.gguf"), Ok(hub("o", "r", Some("sub/m.gguf"))));
    }

    #[test]
    fn a_repository_cannot_lead_out_of_the_store() {
        for bad in ["hf:../..", "hf:o", "hf:o/", "hf:/r", "hf:o/..", "hf:o/r/x", "hf:o\\x/r", "hf:o/.hidden"] {
            assert!(matches!(Source::parse(bad), Err(SourceError::Repo(_))), "{bad}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = Source::parse("smallm").unwrap_err().to_string();
        assert!(error.contains("smollm2:135m") && error.contains("hf:OWNER/REPO"), "{error}");
        assert_eq!(Source::parse("somewhere/m.gguf"), Ok(Source::File("somewhere/m.gguf".into())));
    }
}
