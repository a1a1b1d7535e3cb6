//! The argument of `loggia pull`: a short name, a repository on the hub, or a file on this machine.

use std::path::PathBuf;

use loggia_backend::nearest;

use super::catalogue::{self, CatalogueEntry};

/// The source of a model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A short name from the catalogue.
    Catalogue(&'static CatalogueEntry),
    /// `hf:OWNER/REPO[:FILE or QUANT]`.
    Hub { repo: Repo, pick: Option<String> },
    /// A GGUF file on this machine.
    File(PathBuf),
}

/// `OWNER/REPO`, validated: both become names of folders.
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

/// Why a text is not a source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(
        "`{0}` is not OWNER/REPO; write hf:OWNER/REPO, hf:OWNER/REPO:Q4_K_M or hf:OWNER/REPO:FILE.gguf"
    )]
    Repo(String),
    #[error(
        "`{name}` is neither a short name nor a file on this machine{} The short names are {}. \
         For a repository on Hugging Face, write hf:OWNER/REPO[:FILE or QUANT].",
        did_you_mean(.name), known()
    )]
    Unknown { name: String },
    #[error(
        "only Ollama can download models of its registry: `ollama pull {0}`, then `loggia serve --ollama \
         http://127.0.0.1:11434`. For the built-in engine, download the model as GGUF from Hugging Face: loggia pull hf:OWNER/REPO"
    )]
    OfOllama(String),
    #[error(
        "{0} is not a page of Hugging Face; download the file and pull that: loggia pull FILE.gguf"
    )]
    Page(String),
}

fn did_you_mean(name: &str) -> String {
    let meant = nearest(name, catalogue::short_names());
    meant.map_or_else(
        || ".".to_owned(),
        |meant| format!(". Did you mean `{meant}`? Download it with `loggia pull {meant}`."),
    )
}

fn known() -> String {
    catalogue::short_names().collect::<Vec<_>>().join(", ")
}

impl Source {
    /// Parses the argument of `loggia pull`.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("hf:") {
            return Self::of_hub(rest.trim_start_matches('/'));
        }
        if let Some(page) = of_page(text)? {
            return Ok(page);
        }
        if let Some(name) = text
            .strip_prefix("ollama:")
            .or_else(|| text.strip_prefix("registry.ollama.ai/"))
        {
            return Err(SourceError::OfOllama(
                name.trim_start_matches("library/")
                    .trim_start_matches('/')
                    .to_owned(),
            ));
        }
        if let Some(known) = catalogue::find(text) {
            return Ok(Source::Catalogue(known));
        }
        let path = PathBuf::from(text);
        let named_like_a_file = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
        if named_like_a_file || path.exists() {
            return Ok(Source::File(path));
        }
        // Accepted by vllm and llama-server, too. A path into an existing folder would be a file.
        let is_in_a_folder = path
            .parent()
            .is_some_and(|folder| !folder.as_os_str().is_empty() && folder.is_dir());
        match Self::of_hub(text) {
            Ok(hub) if !is_in_a_folder => Ok(hub),
            _ => Err(SourceError::Unknown {
                name: text.to_owned(),
            }),
        }
    }

    /// Parses `OWNER/REPO[:FILE or QUANT]`.
    fn of_hub(text: &str) -> Result<Self, SourceError> {
        let (repo, pick) = match text.split_once(':') {
            Some((repo, pick)) if !pick.is_empty() => (repo, Some(pick.to_owned())),
            Some((repo, _)) => (repo, None),
            None => (text, None),
        };
        Ok(Source::Hub {
            repo: Repo::parse(repo)?,
            pick,
        })
    }
}

/// Writes the source as an argument of `loggia pull`.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Catalogue(known) => f.write_str(known.name),
            Source::Hub { repo, pick: None } => write!(f, "hf:{repo}"),
            Source::Hub {
                repo,
                pick: Some(pick),
            } => write!(f, "hf:{repo}:{pick}"),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

/// Parses the URL of a repository's or file's page:
/// `https://huggingface.co/OWNER/REPO/blob/main/FILE.gguf`, `hf.co/OWNER/REPO:Q8_0`.
fn of_page(text: &str) -> Result<Option<Source>, SourceError> {
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let address = bare.unwrap_or(text);
    let hosts = ["huggingface.co/", "www.huggingface.co/", "hf.co/"];
    let Some(path) = hosts.iter().find_map(|host| address.strip_prefix(host)) else {
        return if bare.is_some() {
            Err(SourceError::Page(text.to_owned()))
        } else {
            Ok(None)
        };
    };
    let path = path
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let (repo, file) = match parts[..] {
        [
            owner,
            repo,
            "blob" | "resolve" | "raw",
            _branch,
            ref file @ ..,
        ] if !file.is_empty() => (format!("{owner}/{repo}"), Some(file.join("/"))),
        [owner, repo, "tree", ..] => (format!("{owner}/{repo}"), None),
        _ => (path.to_owned(), None),
    };
    let file = file
        .map(|file| format!(":{}", file.replace("%2F", "/").replace("%20", " ")))
        .unwrap_or_default();
    Source::of_hub(&format!("{repo}{file}")).map(Some)
}

impl Repo {
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::Repo(text.to_owned());
        let (owner, name) = text.split_once('/').ok_or_else(wrong)?;
        if is_plain(owner) && is_plain(name) {
            Ok(Repo {
                owner: owner.to_owned(),
                name: name.to_owned(),
            })
        } else {
            Err(wrong())
        }
    }
}

/// Whether the hub allows the name, and it is safe as a component of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 96
        && !name.starts_with('.')
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(owner: &str, name: &str, pick: Option<&str>) -> Source {
        Source::Hub {
            repo: Repo {
                owner: owner.into(),
                name: name.into(),
            },
            pick: pick.map(str::to_owned),
        }
    }

    #[test]
    fn a_repository_may_name_a_file_or_a_quantisation() {
        assert_eq!(Source::parse("hf:o/r"), Ok(hub("o", "r", None)));
        assert_eq!(Source::parse("hf:o/r:"), Ok(hub("o", "r", None)));
        assert_eq!(
            Source::parse("hf:o/r:Q4_K_M"),
            Ok(hub("o", "r", Some("Q4_K_M")))
        );
        assert_eq!(
            Source::parse("hf:o/r:sub/m.gguf"),
            Ok(hub("o", "r", Some("sub/m.gguf")))
        );
    }

    #[test]
    fn the_address_of_a_page_is_understood() {
        let whole = hub("o", "r", None);
        for text in [
            "https://huggingface.co/o/r",
            "https://huggingface.co/o/r/",
            "hf.co/o/r",
            "https://hf.co/o/r/tree/main",
            "huggingface.co/o/r?x=1",
            "o/r",
            "hf://o/r",
        ] {
            assert_eq!(Source::parse(text).as_ref(), Ok(&whole), "{text}");
        }
        let file = hub("o", "r", Some("sub/m-Q8_0.gguf"));
        for text in ["blob/main", "resolve/main"] {
            let text = format!("https://huggingface.co/o/r/{text}/sub/m-Q8_0.gguf?download=true");
            assert_eq!(Source::parse(&text).as_ref(), Ok(&file), "{text}");
        }
        assert_eq!(
            Source::parse("hf.co/o/r:Q8_0"),
            Ok(hub("o", "r", Some("Q8_0")))
        );
        assert_eq!(Source::parse("o/r:Q8_0"), Ok(hub("o", "r", Some("Q8_0"))));
        assert!(matches!(
            Source::parse("https://example.com/m.gguf"),
            Err(SourceError::Page(_))
        ));
        assert!(matches!(
            Source::parse("https://huggingface.co/../.."),
            Err(SourceError::Repo(_))
        ));
        for text in ["hf:o/r", "hf:o/r:Q8_0", "smollm2:135m"] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_model_of_ollamas_is_answered_with_the_way_to_it() {
        for text in [
            "ollama:llama3.1:8b",
            "registry.ollama.ai/library/llama3.1:8b",
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("`ollama pull llama3.1:8b`") && error.contains("--ollama"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_repository_cannot_lead_out_of_the_store() {
        for bad in [
            "hf:../..",
            "hf:o",
            "hf:o/",
            "hf:/r",
            "hf:o/..",
            "hf:o/r/x",
            "hf:o\\x/r",
            "hf:o/.hidden",
        ] {
            assert!(
                matches!(Source::parse(bad), Err(SourceError::Repo(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = Source::parse("smollm:135m").unwrap_err().to_string();
        assert!(
            error.contains(
                "Did you mean `smollm2:135m`? Download it with `loggia pull smollm2:135m`."
            ),
            "{error}"
        );
        let error = Source::parse("something").unwrap_err().to_string();
        assert!(!error.contains("Did you mean"), "{error}");
        assert!(
            error.contains("smollm2:135m") && error.contains("hf:OWNER/REPO"),
            "{error}"
        );
        assert_eq!(
            Source::parse("somewhere/m.gguf"),
            Ok(Source::File("somewhere/m.gguf".into()))
        );
    }
}
