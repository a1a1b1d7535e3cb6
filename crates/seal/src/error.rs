//! Errors. They contain neither keys nor sealed texts.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be created.
    #[error("the key file {} cannot be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of the file is not a key.
    #[error(
        "line {line} of the key file {} is not a key: a key is 32 bytes in base64 or hex, as `openssl rand -base64 32` prints it",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line; the first is 1.
        line: usize,
    },
    /// The file has no key.
    #[error("the key file {} has no key; remove it, and a new one is created", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Why a sealed text was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotOpened {
    /// The text was not sealed by [`Keys`], or is incomplete.
    #[error("it is not a sealed text, or it is incomplete")]
    Malformed,
    /// The key that sealed the text is not in the ring.
    #[error("the key that sealed it is not among the keys of this server")]
    UnknownKey,
    /// The text was changed, or sealed for another purpose.
    #[error("it was changed, or it was sealed for another purpose")]
    Changed,
}
