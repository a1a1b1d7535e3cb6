//! The errors of loading a model, and those of a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use loggia_backend::BackendError;
use thiserror::Error;

use crate::gguf::GgufError;
use crate::template::TemplateError;

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is missing, truncated or damaged.
    #[error(transparent)]
    File(#[from] GgufError),
    /// llama.cpp cannot load the file. Its message is in the log.
    #[error("llama.cpp cannot load {path}; see the log for its reason, most often an architecture that this build does not support yet", path = .path.display())]
    Refused {
        /// The model's file.
        path: PathBuf,
    },
    /// The model is of the wrong kind, for example an embedding model that is loaded as a chat
    /// model.
    #[error("{path} cannot be served: {what}", path = .path.display())]
    Kind {
        /// The model's file.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// There is not enough memory for the context.
    #[error(
        "not enough memory for a context of {context} tokens for each of {parallel} parallel requests; lower --context or --parallel"
    )]
    Context {
        /// The context of one request, in tokens.
        context: u32,
        /// The number of parallel requests.
        parallel: u32,
    },
    /// The file's chat template cannot be used.
    #[error("{path}: {source}", path = .path.display())]
    Template {
        /// The model's file.
        path: PathBuf,
        /// The error in the template.
        source: TemplateError,
    },
    /// llama.cpp cannot load the projector. Its message is in the log.
    #[error(
        "llama.cpp cannot load the projector {path}; see the log for its reason, most often that it was made for another model. To load the model without a projector, set its mmproj to `none`",
        path = .path.display()
    )]
    Projector {
        /// The projector's file.
        path: PathBuf,
    },
    /// A setting is invalid.
    #[error("{0}")]
    Setting(String),
    /// This build needs processor instructions that the processor lacks.
    #[error(
        "this build needs a processor with {missing}, which this machine lacks; use a portable build, which runs on every processor (docs/hardware.md)"
    )]
    Processor {
        /// The missing instructions.
        missing: String,
    },
    /// The settings put layers on a GPU, but no usable GPU was found.
    #[error(
        "gpu_layers is set, but there is no GPU that this build can use; leave gpu_layers out, or see docs/hardware.md for builds and drivers"
    )]
    NoGpu,
    /// No compute device was found, not even the processor: a portable build is missing its
    /// libraries.
    #[error(
        "ggml's libraries (libggml-cpu-*) were not found; put them into ../lib/loggia, seen from the program's folder, or into the program's folder"
    )]
    Libraries,
    /// The operating system could not start a thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

impl LoadError {
    /// Returns the error for a model that cannot be served, from the reason.
    pub(crate) fn kind(path: &Path) -> impl FnOnce(String) -> Self + '_ {
        |what| Self::Kind {
            path: path.to_owned(),
            what,
        }
    }
}

/// Why a request failed, before or during its answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The queue is full.
    #[error("the engine is busy: {waiting} requests are waiting")]
    Busy {
        /// The number of waiting requests.
        waiting: usize,
        /// The estimated time until a place in the queue is free.
        retry_after: Duration,
    },
    /// The prompt leaves no room for an answer in the context.
    #[error(
        "the prompt has {prompt_tokens} tokens, but the context is {context} tokens for prompt and answer together"
    )]
    ContextLengthExceeded {
        /// The number of tokens in the prompt.
        prompt_tokens: usize,
        /// The context, in tokens: prompt and answer together.
        context: usize,
    },
    /// The prompt is empty.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// llama.cpp could not compute a step.
    #[error("the computation failed: {0}")]
    Compute(String),
    /// The answer cannot satisfy its constraint (a grammar or schema): it is too complex, or the
    /// model's vocabulary has no token that may come next.
    #[error("the answer cannot satisfy its grammar: {0}")]
    Constraint(String),
    /// The engine has stopped or crashed.
    #[error("the engine has stopped")]
    Stopped,
}

impl EngineError {
    /// Converts the error to the one that the backend reports.
    pub(crate) fn to_backend_error(&self) -> BackendError {
        match self {
            Self::Busy { retry_after, .. } => BackendError::Busy {
                retry_after: Some(*retry_after),
            },
            Self::ContextLengthExceeded {
                prompt_tokens,
                context,
            } => BackendError::ContextLengthExceeded {
                prompt_tokens: Some(*prompt_tokens as u64),
                context: Some(*context as u64),
            },
            Self::EmptyPrompt => BackendError::EmptyPrompt,
            Self::Compute(_) | Self::Constraint(_) => BackendError::Engine {
                message: self.to_string(),
            },
            Self::Stopped => BackendError::CutShort {
                backend: "embedded".to_owned(),
            },
        }
    }
}
