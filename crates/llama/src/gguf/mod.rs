//! Reads and checks the header of a GGUF file before llama.cpp loads the file.
//!
//! Weights are untrusted input, and llama.cpp ends the process on some invalid files. Everything in
//! the header that can be checked is checked here: the lengths against the size of the file, the
//! counts against the lengths, the tensors against the data. The weights themselves are not read.
//! `docs/engine.md` lists the faults that the header does not show.

mod adapter;
mod architectures;
mod check;
mod head;
mod pooling;
mod projector;
mod reader;
mod tensor;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use thiserror::Error;

pub(crate) use pooling::{Pooling, is_encoder};
use reader::{Array, Reader, Value};
use tensor::Tensor;

/// Why a file was not loaded.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a GGUF file, or it is truncated or damaged.
    #[error("{path} is not a valid GGUF file: {what}; download it again, and compare its checksum with the publisher's", path = .path.display())]
    Broken {
        /// The path of the file.
        path: PathBuf,
        /// A description of the fault, with its position in the file.
        what: String,
    },
    /// The adapter does not fit the model.
    #[error("the adapter {path} does not fit this model: {what}", path = .path.display())]
    Misfit {
        /// The path of the adapter.
        path: PathBuf,
        /// The reason.
        what: String,
    },
}

/// The contents of a file's header, as far as Loggia needs them.
#[derive(Debug)]
pub(crate) struct Gguf {
    values: HashMap<String, Value>,
    arrays: HashMap<String, Array>,
    tensors: Vec<Tensor>,
    size: u64,
    /// A hash of the header: names, shapes and all metadata.
    header: [u8; 32],
}

impl Gguf {
    /// Reads and checks the header of a file. If the model is split and this is its first file,
    /// reads the others too.
    pub(crate) fn read(path: &Path) -> Result<Self, GgufError> {
        let mut first = Self::read_one(path)?;
        let parts = first.number("split.count").unwrap_or(1);
        if parts > 1 {
            for other in other_parts(path, parts).map_err(|what| broken(path, what))? {
                let part = Self::read_one(&other)?;
                first.size = first.size.saturating_add(part.size);
                first.tensors.extend(part.tensors);
            }
        }
        check::model(&first).map_err(|what| broken(path, what))?;
        Ok(first)
    }

    /// Reads and checks the header of a LoRA adapter for a model.
    pub(crate) fn read_adapter(path: &Path, base: &Self) -> Result<Self, GgufError> {
        let adapter = Self::read_one(path)?;
        let misfit = |what| GgufError::Misfit {
            path: path.to_owned(),
            what,
        };
        adapter::alone(&adapter).map_err(misfit)?;
        adapter::over(&adapter, base).map_err(misfit)?;
        Ok(adapter)
    }

    /// Reads and checks the header of a projector, which encodes images and sounds for a model.
    pub(crate) fn read_projector(path: &Path) -> Result<Self, GgufError> {
        let projector = Self::read_one(path)?;
        projector::check(&projector).map_err(|what| broken(path, what))?;
        Ok(projector)
    }

    fn read_one(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut reader = Reader::new(file, size);
        reader.header().map_err(|error| match error {
            reader::Error::Io(source) => io(source),
            reader::Error::Broken(what) => broken(path, what),
        })
    }

    /// Returns a string of the metadata.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns an integer of the metadata, whatever its width.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// Returns a number of this model's architecture. For `context_length`, the key is for example
    /// `llama.context_length`.
    pub(crate) fn of_architecture(&self, key: &str) -> Option<u64> {
        self.number(&format!("{}.{key}", self.text("general.architecture")?))
    }

    /// The context that the model was trained for; unlimited if the file does not state it.
    pub(crate) fn trained_context(&self) -> u32 {
        self.of_architecture("context_length")
            .and_then(|length| u32::try_from(length).ok())
            .unwrap_or(u32::MAX)
    }

    /// The number of elements of an array in the metadata.
    pub(crate) fn array_length(&self, key: &str) -> Option<u64> {
        self.arrays.get(key).map(|array| array.length)
    }

    /// The size of the file in bytes. If the model is split, it is the sum of all files.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of the tensors that llama.cpp uses directly from the mapped file. Processes that
    /// load the same file share this memory.
    pub(crate) fn shareable(&self) -> u64 {
        let staying = self
            .tensors
            .iter()
            .filter(|tensor| tensor::stays_in_file(tensor.kind));
        staying
            .filter_map(|tensor| tensor.size().ok())
            .fold(0, u64::saturating_add)
    }

    /// Whether an adapter changes norms, which llama.cpp ignores.
    pub(crate) fn has_norms(&self) -> bool {
        adapter::has_norms(self)
    }

    /// The times at which the files of the model at `path` were changed, and their sizes.
    pub(crate) fn changed(&self, path: &Path) -> String {
        let others = other_parts(path, self.number("split.count").unwrap_or(1));
        let all = std::iter::once(path.to_owned()).chain(others.into_iter().flatten());
        let of_file = |path: PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            let age = metadata
                .modified()
                .ok()?
                .duration_since(SystemTime::UNIX_EPOCH);
            Some(format!("{} {}", metadata.len(), age.ok()?.as_nanos()))
        };
        all.map(|path| of_file(path).unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Identifies the weights without reading all of them, by a hash of the header and the size.
    pub(crate) fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.header);
        hash.update(self.size.to_le_bytes());
        let start = hash
            .finalize()
            .iter()
            .take(16)
            .fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
        format!("{start:032x}")
    }
}

fn broken(path: &Path, what: impl Into<String>) -> GgufError {
    GgufError::Broken {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// The paths of the other files of a split model: beside `…-00001-of-00003.gguf` are
/// `…-00002-of-00003.gguf` and so on.
fn other_parts(path: &Path, parts: u64) -> Result<Vec<PathBuf>, String> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let ending = format!("-00001-of-{parts:05}.gguf");
    let Some(stem) = name.strip_suffix(&ending) else {
        return Err(format!(
            "the model is split into {parts} files, but the name of this one does not end in {ending}; give the first file"
        ));
    };
    Ok((2..=parts)
        .map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{parts:05}.gguf")))
        .collect())
}

#[cfg(test)]
mod tests;
