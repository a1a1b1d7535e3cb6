//! The files of a model: a folder in the format of Hugging Face, or one file of whisper.cpp.
//!
//! `ggml.rs` reads whisper.cpp's format; `safetensors.rs` and candle's reader of GGUF, the weights of
//! folders. All weights become 32-bit numbers, whatever the files have.

mod folder;
mod ggml;
mod safetensors;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use loggia_wire::openai::Model as Card;
use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::tokens::Tokens;

/// The files of a Whisper model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files(Format);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    /// A folder with `config.json`, `tokenizer.json` or `vocab.json`, and `model.safetensors` or one
    /// GGUF file.
    Folder(PathBuf),
    /// A file of whisper.cpp.
    Ggml(PathBuf),
}

impl Files {
    /// Recognizes a Whisper model. `None` if this is something else.
    pub fn recognize(path: &Path) -> Option<Self> {
        let format = if path.is_dir() {
            folder::is_whisper(path).then(|| Format::Folder(path.to_owned()))
        } else {
            ggml::is_whisper(path).then(|| Format::Ggml(path.to_owned()))
        };
        format.map(Self)
    }

    /// Returns the memory that the model needs while it is loaded. Reads only the heads of its files.
    ///
    /// # Errors
    /// If a file is missing or invalid.
    pub fn memory(&self) -> Result<Memory, LoadError> {
        let (sizes, numbers) = match &self.0 {
            Format::Folder(folder) => folder::sizes(folder)?,
            Format::Ggml(file) => ggml::sizes(file)?,
        };
        Ok(Memory {
            weights: numbers.saturating_mul(4),
            compute: sizes.compute(),
        })
    }

    /// Reads all files.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        match &self.0 {
            Format::Folder(folder) => folder::load(folder),
            Format::Ggml(file) => ggml::load(file),
        }
    }

    fn path(&self) -> &Path {
        match &self.0 {
            Format::Folder(path) | Format::Ggml(path) => path,
        }
    }

    /// Returns the error about something that is wrong with the model.
    pub(crate) fn invalid(&self, why: String) -> LoadError {
        LoadError::invalid(self.path(), why)
    }

    /// Returns when the model was last changed, in seconds since 1970.
    pub(crate) fn changed(&self) -> u64 {
        let changed = self
            .path()
            .metadata()
            .and_then(|metadata| metadata.modified());
        let age = changed
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        age.map_or(0, |age| age.as_secs())
    }
}

/// Adds what clients may know of every Whisper model to its entry in the list of models.
pub fn describe(card: &mut Card) {
    let task = "automatic-speech-recognition";
    card.extra.insert("task".to_owned(), task.into());
    card.extra
        .insert("capabilities".to_owned(), vec!["transcription"].into());
}

/// The memory of a loaded model, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The weights, as 32-bit numbers.
    pub weights: u64,
    /// What the computation of 30 seconds of sound needs.
    pub compute: u64,
}

/// A model that has been read, before it is put together.
pub(crate) struct Loaded {
    pub(crate) sizes: Sizes,
    pub(crate) tokens: Tokens,
    pub(crate) weights: Weights,
    /// The layers and heads whose attention follows the sound, if the model's files tell them.
    pub(crate) alignment_heads: Option<Vec<(usize, usize)>>,
}

/// The sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) vocabulary: usize,
    /// The bands of a spectrum.
    pub(crate) bands: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) encoder_layers: usize,
    pub(crate) decoder_heads: usize,
    pub(crate) decoder_layers: usize,
    /// The most tokens of a prompt and its text.
    pub(crate) context: usize,
}

/// The positions of 30 seconds of sound.
pub(crate) const POSITIONS: usize = 1500;

impl Sizes {
    /// Returns the message about sizes that no Whisper model has.
    fn check(self, positions: usize) -> Result<Self, String> {
        let Self {
            vocabulary,
            bands,
            width,
            heads,
            encoder_layers,
            decoder_heads,
            decoder_layers,
            context,
        } = self;
        let is_whisper = matches!(bands, 80 | 128)
            && (64..=8192).contains(&width)
            && (1..=width).contains(&heads)
            && (1..=width).contains(&decoder_heads)
            && width % heads == 0
            && width % decoder_heads == 0
            && (1..=128).contains(&encoder_layers)
            && (1..=128).contains(&decoder_layers)
            && (64..=4096).contains(&context)
            && positions == POSITIONS
            && (51_864..=51_866).contains(&vocabulary);
        if is_whisper {
            Ok(self)
        } else {
            Err(format!(
                "no Whisper model has these sizes: {self:?}, {positions} positions"
            ))
        }
    }

    /// Returns about how many bytes the computation of 30 seconds needs.
    fn compute(&self) -> u64 {
        let numbers = |count: usize| 4 * count as u64;
        let encoder =
            POSITIONS * (self.width * 16 + POSITIONS * 3) + 6000 * (self.bands + self.width);
        let keys = 2 * self.decoder_layers * self.width * (2 * POSITIONS + 2 * self.context);
        // The program itself.
        numbers(encoder + keys + 8 * self.vocabulary) + (48 << 20)
    }
}

/// The weights by their names at Hugging Face.
pub(crate) struct Weights {
    file: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            tensors: HashMap::new(),
        }
    }

    fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }

    /// Takes a tensor, whose shape must be this one.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let invalid = |why: String| LoadError::invalid(&self.file, why);
        let tensor = self.tensors.remove(name);
        let tensor = tensor.ok_or_else(|| invalid(format!("it has no tensor `{name}`")))?;
        if tensor.dims() == shape {
            Ok(tensor)
        } else {
            let dims = tensor.dims();
            Err(invalid(format!(
                "the tensor `{name}` has the shape {dims:?}, not {shape:?}"
            )))
        }
    }

    /// Takes a tensor that some layers lack.
    pub(crate) fn take_if_any(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Tensor>, LoadError> {
        if self.tensors.contains_key(name) {
            self.take(name, shape).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Reads exactly so many bytes, without reserving memory for more than the file has.
fn bytes(input: &mut impl io::Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Opens a file, and returns its length.
fn open(file: &Path) -> Result<(File, u64), LoadError> {
    let read = |why| LoadError::read(file, why);
    let opened = File::open(file).map_err(read)?;
    let length = opened.metadata().map_err(read)?.len();
    Ok((opened, length))
}
