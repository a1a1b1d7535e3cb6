//! How loading a model fails, and how a request does.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::gguf::GgufError;
use crate::template::TemplateError;

/// Why a model is not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is missing, cut short or damaged.
    #[error(transparent)]
    File(#[from] GgufError),
    /// llama.cpp does not take the file; what it said is in the log.
    #[error("llama.cpp cannot load {path}: the log has its reason; an architecture that is newer than this build is the usual one", path = .path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
    },
    /// The file is a model of another kind than it is to be loaded as.
    #[error("{path} cannot be served: {what}", path = .path.display())]
    Kind {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// There is not enough memory for the context.
    #[error(
        "no memory for a context of {context} tokens for each of {parallel} requests: lower --context or --parallel"
    )]
    Context {
        /// Tokens of one request.
        context: u32,
        /// Requests at once.
        parallel: u32,
    },
    /// The file's chat template is unusable.
    #[error("{path}: {source}", path = .path.display())]
    Template {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// llama.cpp does not take the projector; what it said is in the log.
    #[error(
        "llama.cpp cannot load the projector {path}: the log has its reason; one that was made for another model is the usual one. \
         With `none` as its mmproj, the model is loaded without",
        path = .path.display()
    )]
    Projector {
        /// Which file.
        path: PathBuf,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The processor lacks instructions that this program was built for.
    #[error(
        "this build needs a processor with {missing}, which this machine lacks; a portable build runs on every processor (docs/hardware.md)"
    )]
    Processor {
        /// Which instructions are lacking.
        missing: String,
    },
    /// Layers are asked to be on a GPU.
    #[error(
        "gpu_layers asks for a GPU, and there is none that this build can use; leave it out, or see docs/hardware.md for builds and drivers"
    )]
    NoGpu,
    /// There is nothing to compute on, not even the processor: a portable build without its
    /// libraries.
    #[error(
        "ggml's libraries (libggml-cpu-*) are not where they belong: in ../lib/loggia from the program's folder, or beside the program"
    )]
    Libraries,
    /// The system gives no thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

/// Why a request gets no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The queue is full.
    #[error("the engine is busy: {waiting} requests wait already")]
    Busy {
        /// How many wait.
        waiting: usize,
        /// When a place may be free.
        retry_after: Duration,
    },
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens, and the context holds {context} with the answer"
    )]
    ContextLengthExceeded {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of prompt and answer together.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// llama.cpp could not compute a step.
    #[error("the engine failed at computing: {0}")]
    Compute(String),
    /// What the answer is held to cannot be followed further: it is too complex, or the model has
    /// no tokens for it.
    #[error("the answer cannot be held to its grammar: {0}")]
    Constraint(String),
    /// The engine has been stopped, or has died.
    #[error("the engine has stopped")]
    Stopped,
}
