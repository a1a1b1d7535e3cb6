//! Errors of loading and of transcribing.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the system.
        why: io::Error,
    },
    /// A file is damaged, or not what its name says.
    #[error("{}: {why}", .file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A folder lacks a file.
    #[error("the folder {} has no {what}", .folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The file.
        what: &'static str,
    },
}

impl LoadError {
    pub(crate) fn invalid(file: &Path, why: impl Into<String>) -> Self {
        Self::Invalid {
            file: file.to_owned(),
            why: why.into(),
        }
    }

    pub(crate) fn read(file: &Path, why: io::Error) -> Self {
        Self::Read {
            file: file.to_owned(),
            why,
        }
    }
}

/// Why a transcription ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    /// The client has left.
    #[error("the client has left")]
    Left,
    /// The recording cannot be heard. The text is for the client.
    #[error("{0}")]
    Recording(String),
    /// The format of the recording is not read. The text is for the client.
    #[error("{0}")]
    Format(String),
    /// A computation failed.
    #[error("a computation failed: {0}")]
    Compute(#[from] candle_core::Error),
    /// The temporary file of the samples cannot be written or read.
    #[error("the samples cannot be kept: {0}")]
    Samples(#[from] io::Error),
}
