//! What an embedded engine can be told, with defaults chosen by measuring (`docs/engine.md` has the
//! figures).

use std::path::PathBuf;

use crate::threads;

/// How a model is loaded and served.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaOptions {
    /// The GGUF file; the first one where the model is split into several.
    pub path: PathBuf,
    /// What clients put into `model`.
    pub name: String,
    /// A LoRA adapter that every request is computed with.
    pub lora: Option<Lora>,
    /// The projector (`mmproj`) with which the model sees or hears: a GGUF file of the architecture
    /// `clip`.
    pub mmproj: Option<PathBuf>,
    /// A smaller model that guesses what this one will say, where that makes it quicker. What is
    /// said does not change by it.
    pub draft: Option<Draft>,
    /// The most tokens that prompt and answer of one request may have together. By default what the
    /// model was trained for, at most [`DEFAULT_CONTEXT`]. Every request of the `parallel` ones can
    /// have all of it: memory for `parallel × context` tokens is reserved at the start.
    pub context: Option<u32>,
    /// How many requests are answered at once; others wait.
    pub parallel: u32,
    /// How many requests may wait; those past it are refused at once. By default eight for each of
    /// `parallel`.
    pub queue: Option<usize>,
    /// Threads that do the arithmetic. By default one for each core that the process may use
    /// (`threads.rs` counts them).
    pub threads: Option<u32>,
    /// The most tokens that one step reads of each waiting prompt while answers are being generated
    /// (of all together `batch`): it bounds how long a stream pauses when a newcomer's prompt is
    /// read.
    pub piece: u32,
    /// The most tokens of prompts that one step reads while nothing is being generated; also what
    /// llama.cpp computes at once.
    pub batch: u32,
    /// A chat template in place of the file's own: for files whose template is missing, broken, or
    /// silent about tools.
    pub chat_template: Option<String>,
    /// Layers that are computed on a GPU. All by default, where the build knows GPUs and the
    /// machine has one; 0 is none. A number above 0 where there is none is an error.
    pub gpu_layers: Option<u32>,
    /// Tokens of an answer that may wait for a slow reader before its slot sits out.
    pub reader_buffer: usize,
}

/// A LoRA adapter: a GGUF file (`general.type` is `adapter`) with what is added to a model's
/// weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Its file.
    pub path: PathBuf,
    /// How much of it is added: 1 is as it was trained, 0 nothing. It has to be finite.
    pub scale: f32,
}

/// A draft model: a smaller one with the same vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its file.
    pub path: PathBuf,
    /// The most tokens that it guesses in a step, for each answer: 1 to 16.
    pub tokens: u32,
    /// Whether it guesses in every step it can, without measuring whether that pays, and for
    /// requests with a seed, too.
    pub always: bool,
}

/// The context where none is given and the model was trained for more: memory is reserved for all
/// of it.
pub const DEFAULT_CONTEXT: u32 = 4096;

/// Tokens of prompts in a step. A processor reads no prompt cheaper by more at once
/// (`docs/engine.md` has the figures). A GPU is idle for most of so small a step, and reads
/// hundreds of tokens in the time of a few; 512 is llama.cpp's own choice.
const PIECE: u32 = if HAS_GPU { 256 } else { 64 };
const BATCH: u32 = if HAS_GPU { 512 } else { 256 };
const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));

impl LlamaOptions {
    /// The defaults for a file, under a name.
    pub fn new(path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            name: name.into(),
            lora: None,
            mmproj: None,
            draft: None,
            context: None,
            parallel: 4,
            queue: None,
            threads: None,
            piece: PIECE,
            batch: BATCH,
            chat_template: None,
            gpu_layers: None,
            reader_buffer: 64,
        }
    }

    /// How many threads compute with these options: as many as they say, or one for each core that
    /// the process may use.
    pub fn threads(&self) -> i32 {
        let threads = self
            .threads
            .map_or_else(threads::of_this_machine, |threads| threads as usize);
        i32::try_from(threads.clamp(1, 512)).unwrap_or(1)
    }

    /// How many requests may wait.
    pub(crate) fn queue(&self) -> usize {
        self.queue.unwrap_or(8 * self.parallel as usize)
    }
}
