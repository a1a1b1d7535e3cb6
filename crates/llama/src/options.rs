//! The settings of an embedded engine. The defaults are measured (`docs/engine.md` has the
//! figures).

use std::path::PathBuf;

use crate::cache_type::{CacheType, CacheTypes};
use crate::threads;

/// The settings with which a model is loaded and served.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaOptions {
    /// The GGUF file. If the model is split into several files, the first one.
    pub path: PathBuf,
    /// The name of the model in a request's `model` field.
    pub name: String,
    /// A LoRA adapter, applied to every request.
    pub lora: Option<Lora>,
    /// The projector (`mmproj`) for image or sound input: a GGUF file of the architecture `clip`.
    pub mmproj: Option<PathBuf>,
    /// A draft model for speculative decoding. It is used while it makes answers faster, and does
    /// not change them.
    pub draft: Option<Draft>,
    /// Whether text that a grammar forces, such as the property names of a schema, is read in one
    /// step, like a prompt. Otherwise each of its tokens takes a step. The answers are the same.
    pub fast_forward: bool,
    /// Whether the next tokens of an answer are guessed from its prompt and the answer so far.
    /// Guesses are used while they make answers faster, and do not change them. Not available for
    /// models with a draft model, and for models that cannot remove tokens from their state.
    pub lookup: bool,
    /// The maximum number of tokens of one request, prompt and answer together. The default is the
    /// context that the model was trained for, at most [`DEFAULT_CONTEXT`]. Each of the `parallel`
    /// requests can use all of it: memory for `parallel × context` tokens is reserved at the start.
    pub context: Option<u32>,
    /// The number of requests that are answered in parallel. Others wait.
    pub parallel: u32,
    /// The maximum number of waiting requests. Further requests are refused immediately. The
    /// default is eight for each of `parallel`.
    pub queue: Option<usize>,
    /// The maximum number of bytes of memory for the prompt cache: conversations that were answered
    /// and have no slot any more. When such a conversation continues, it need not be computed
    /// again. With 0, the default, there is no such cache; slots keep their last conversation in
    /// any case.
    pub cache_memory: u64,
    /// The folder in which cached prompts are kept on disk too, for restarts. By default, there is
    /// none.
    pub cache_disk: Option<CacheDisk>,
    /// Which requests share cached prompts.
    pub cache_scope: CacheScope,
    /// The number format of keys in the KV cache.
    pub cache_type_k: CacheType,
    /// The number format of values in the KV cache. Quantised values need flash attention, which
    /// llama.cpp then uses.
    pub cache_type_v: CacheType,
    /// The number of compute threads. The default is one for each core that the process may use
    /// (`threads.rs` counts them).
    pub threads: Option<u32>,
    /// The maximum number of tokens of one prompt in a step while answers are being generated
    /// (`batch` limits the sum over all prompts). It limits how long a stream pauses while a new
    /// prompt is read.
    pub piece: u32,
    /// The maximum number of prompt tokens per step while no answer is being generated. It is also
    /// the batch size of llama.cpp.
    pub batch: u32,
    /// A chat template that replaces the one in the file. It is for files whose template is
    /// missing, broken, or without support for tools.
    pub chat_template: Option<String>,
    /// The number of layers on a GPU. By default, all layers are on the GPU if the build supports
    /// GPUs and the machine has one. With 0, no GPU is used. A number above 0 is an error if there
    /// is no usable GPU.
    pub gpu_layers: Option<u32>,
    /// The number of answer tokens that are buffered for a slow reader. When the buffer is full,
    /// the slot pauses.
    pub reader_buffer: usize,
}

/// The prompt cache on disk. Its files have the text of conversations, as tokens; only the user of
/// the process can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDisk {
    /// The folder, which all models and processes of a server may share. It is created if it does
    /// not exist.
    pub folder: PathBuf,
    /// The maximum number of bytes of all files in it.
    pub bytes: u64,
}

/// Which requests share cached prompts, in slots and in the prompt cache. An answer that begins
/// sooner than expected tells a client that somebody has sent the beginning of its prompt before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheScope {
    /// All requests.
    #[default]
    Server,
    /// Requests of the same API key, by its name in [`CallHead::caller`](loggia_backend::CallHead).
    Key,
}

/// A LoRA adapter: a GGUF file (`general.type` is `adapter`) with changes to a model's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The adapter's file.
    pub path: PathBuf,
    /// The strength of the adapter: 1 is as trained, 0 has no effect. It must be finite.
    pub scale: f32,
}

/// A draft model: a smaller model with the same vocabulary, for speculative decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The draft model's file.
    pub path: PathBuf,
    /// The maximum number of draft tokens per step and answer: 1 to 16.
    pub tokens: u32,
    /// Whether to draft in every possible step, even if that is slower, and also for requests with
    /// a seed.
    pub always: bool,
}

/// The default context of a model that was trained for more. Memory is reserved for all of it.
pub const DEFAULT_CONTEXT: u32 = 4096;

/// The default of [`LlamaOptions::piece`]. On a processor, larger pieces do not make a prompt
/// cheaper (`docs/engine.md` has the figures). A GPU is mostly idle in such a small step, and reads
/// hundreds of tokens in the time of a few; 512 is llama.cpp's own default.
const PIECE: u32 = if HAS_GPU { 256 } else { 64 };
const BATCH: u32 = if HAS_GPU { 512 } else { 256 };
const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));

impl LlamaOptions {
    /// Returns the default settings for a file and a model name.
    pub fn new(path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            name: name.into(),
            lora: None,
            mmproj: None,
            draft: None,
            fast_forward: true,
            lookup: true,
            context: None,
            parallel: 4,
            queue: None,
            cache_memory: 0,
            cache_disk: None,
            cache_scope: CacheScope::Server,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            threads: None,
            piece: PIECE,
            batch: BATCH,
            chat_template: None,
            gpu_layers: None,
            reader_buffer: 64,
        }
    }

    /// The number of compute threads: the configured number, or one for each core that the process
    /// may use.
    pub fn threads(&self) -> i32 {
        let threads = self
            .threads
            .map_or_else(threads::of_this_machine, |threads| threads as usize);
        i32::try_from(threads.clamp(1, 512)).unwrap_or(1)
    }

    /// The types of keys and of values.
    pub(crate) fn cache_types(&self) -> CacheTypes {
        CacheTypes {
            keys: self.cache_type_k,
            values: self.cache_type_v,
        }
    }

    /// The maximum number of waiting requests.
    pub(crate) fn queue(&self) -> usize {
        self.queue.unwrap_or(8 * self.parallel as usize)
    }
}
