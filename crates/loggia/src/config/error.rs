//! Why no configuration results.

use std::path::PathBuf;

/// Why no configuration results.
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
    #[error("strict and lenient exclude each other; {0} sets both")]
    StrictAndLenient(String),
    #[error("two engines are called `{0}`; each needs a name of its own")]
    TwoEngines(String),
    #[error("the key `{name}` has no text; set {variable}, or `key` or `sha256` in the file")]
    NoKey { name: String, variable: String },
    #[error(
        "the keys `{0}` and `{1}` are the same, or named alike; each needs a name and a text of its own"
    )]
    TwoKeys(String, String),
    #[error(
        "the environment variable {0} holds a key of nobody; name its holder with LOGGIA_KEYS, or with [[key]] in the file"
    )]
    KeyOfNobody(String),
    #[error(
        "there is no home directory to keep models in; name a folder with --data-dir or LOGGIA_DATA_DIR"
    )]
    NoDataDir,
}
