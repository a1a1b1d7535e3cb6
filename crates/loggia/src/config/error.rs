//! The errors of a configuration.

use std::path::PathBuf;

/// The reason why the configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path}: {cause}")]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("the configuration file {path}, line {line}: {why}")]
    Parse {
        path: PathBuf,
        line: usize,
        why: String,
    },
    #[error("the environment variable {name}: {why}")]
    Variable { name: String, why: String },
    #[error("strict and lenient cannot be used together; {0} sets both")]
    StrictAndLenient(String),
    #[error("the backend `{name}` has the node {url} twice; remove one")]
    SameNode { name: String, url: String },
    #[error(
        "the API key `{name}` has no value; set the variable {variable}, or `key` or `sha256` in the file"
    )]
    NoKey { name: String, variable: String },
    #[error("the API keys `{0}` and `{1}` have the same value or variable; each needs its own")]
    TwoKeys(String, String),
    #[error(
        "{0} is set, but no API key with that name is configured; add the name to LOGGIA_KEYS or to a [[key]] table"
    )]
    KeyOfNobody(String),
    #[error(
        "there is no home directory for the models; choose a folder with --data-dir or LOGGIA_DATA_DIR"
    )]
    NoDataDir,
}
