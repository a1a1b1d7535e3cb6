//! [`BackendError`]: why a backend failed. `error.rs` of `loggia-api` decides what the client sees.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::http::TlsFault;

/// The reason why a backend could not answer, or not completely. Messages are for the client and
/// contain no address and no prompt text.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendError {
    /// The model does not exist.
    #[error("the model `{model}` does not exist; GET /v1/models lists the available models{}", did_you_mean(.nearest.as_deref()))]
    ModelNotFound {
        /// The requested name.
        model: String,
        /// The most similar name among the models that the client may use.
        #[serde(default)]
        nearest: Option<String>,
    },
    /// The backend has no models.
    #[error("no model is available; pull a model, or configure a backend that has one")]
    NoModels,
    /// The engine refuses the request as invalid.
    #[error("{message}")]
    InvalidRequest {
        /// A message for the client.
        message: String,
        /// The path of the invalid field, if known.
        param: Option<String>,
        /// A code for programs, if there is one.
        code: Option<String>,
    },
    /// The prompt and the answer do not fit into the context.
    #[error("the prompt{} does not fit this model's context{}", of_tokens(*.prompt_tokens), of_tokens(*.context))]
    ContextLengthExceeded {
        /// The number of prompt tokens, if known.
        prompt_tokens: Option<u64>,
        /// The context size in tokens, if known.
        context: Option<u64>,
    },
    /// The prompt has no tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// One of several inputs is longer than the model can read at once.
    #[error("an input{} is longer than this model's context{}", of_tokens(*.tokens), of_tokens(*.most))]
    InputTooLong {
        /// The number of the input, from 0, if known.
        index: Option<usize>,
        /// The number of tokens of the input, if known.
        tokens: Option<u64>,
        /// The maximum number of tokens, if known.
        most: Option<u64>,
    },
    /// The model or its backend does not support this kind of work.
    #[error("this model does not support {work}")]
    Unsupported {
        /// The requested kind of work.
        work: WorkKind,
    },
    /// The model exists but was not deleted.
    #[error("{}", .why.sentence(.model))]
    NotDeleted {
        /// The model.
        model: String,
        /// The reason.
        why: NotDeleted,
    },
    /// The engine is overloaded. A retry is safe.
    #[error("the engine is busy; try again later")]
    Busy {
        /// The time after which to retry, if known.
        retry_after: Option<Duration>,
    },
    /// The engine or a proxy in front of it limits the rate or amount of requests.
    #[error("{message}")]
    RateLimited {
        /// A message for the client.
        message: String,
        /// A code for programs. [`NO_QUOTA`](Self::NO_QUOTA) if no retry will help.
        code: Option<String>,
        /// The time after which to retry, if known.
        retry_after: Option<Duration>,
    },
    /// The engine refuses with a status that is more specific than 400: 401, 402, 403, 408, 409 or
    /// 422.
    #[error("{message}")]
    Refused {
        /// The status.
        status: u16,
        /// A message for the client.
        message: String,
        /// The path of the invalid field, if known.
        param: Option<String>,
        /// A code for programs, if there is one.
        code: Option<String>,
    },
    /// The engine rejects the API key that the server's configuration has for it, or requires one.
    /// The client cannot fix this.
    #[error("{}", credentials_message(backend, message.as_deref()))]
    Credentials {
        /// The name of the backend.
        backend: String,
        /// The engine's own message, if any.
        message: Option<String>,
    },
    /// No connection to the backend's address is possible.
    #[error("the backend `{backend}` cannot be reached; check that it is running")]
    Unreachable {
        /// The name of the backend.
        backend: String,
    },
    /// The backend speaks TLS although its URL does not say so, or the reverse.
    #[error("the backend `{backend}` {}", .fault.sentence())]
    Tls {
        /// The name of the backend.
        backend: String,
        /// The mismatch between the URL and the server.
        fault: TlsFault,
    },
    /// The backend exceeded a time limit.
    #[error("the backend `{backend}` took longer than {} s {phase}", .after.as_secs_f32())]
    TimedOut {
        /// The name of the backend.
        backend: String,
        /// The phase of the call that took too long.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The response of the backend is invalid.
    #[error("the backend `{backend}` sent an invalid response: {what}")]
    BadAnswer {
        /// The name of the backend.
        backend: String,
        /// The problem, without any content of the response.
        what: String,
    },
    /// The connection broke, or the engine ended, before the answer was complete.
    #[error("the backend `{backend}` closed the connection before the end of the answer")]
    CutShort {
        /// The name of the backend.
        backend: String,
    },
    /// The operator removed the node that was answering.
    #[error(
        "the operator removed the node of the backend `{backend}` that was answering; send the request again"
    )]
    NodeRemoved {
        /// The name of the backend.
        backend: String,
    },
    /// The answer ended, but a choice has no `finish_reason`.
    #[error("the engine's answer is incomplete: it has no finish reason")]
    Unfinished,
    /// The answer exceeded `Ceilings::whole_time` of the server.
    #[error("the answer took longer than {} s, the limit of this server", .after.as_secs_f32())]
    Overdue {
        /// The limit.
        after: Duration,
    },
    /// The engine reports an internal error.
    #[error("{message}")]
    Engine {
        /// The engine's own message.
        message: String,
    },
}

/// The kinds of work. Few models support all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
}

impl std::fmt::Display for WorkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chat => "chats",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        })
    }
}

/// The reason why a model was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotDeleted {
    /// The engine manages its models itself and has no API to delete them.
    EngineKeepsIt,
    /// The name is an alias.
    Alias {
        /// The model that the alias stands for.
        of: String,
    },
    /// The model is a file that the configuration names by its path. It was not pulled.
    OwnFile,
    /// The model is a LoRA adapter that the configuration applies to another model.
    Adapter,
    /// Another model uses the same file.
    NeededBy {
        /// The name of the other model.
        other: String,
    },
    /// The model is being loaded or is answering requests. A later retry may succeed.
    InUse,
    /// The file could not be removed. The server's log has the reason.
    FileStays,
}

impl NotDeleted {
    /// Returns whether the model could be deleted if no other model or request used it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::NeededBy { .. } | Self::InUse)
    }

    fn sentence(&self, model: &str) -> String {
        match self {
            Self::EngineKeepsIt => format!(
                "The model `{model}` cannot be deleted through this API: the engine behind it manages its own models. Remove it there."
            ),
            Self::Alias { of } => {
                format!(
                    "`{model}` is an alias and cannot be deleted. To delete the model that it stands for, use the name `{of}`."
                )
            }
            Self::OwnFile => format!(
                "The model `{model}` cannot be deleted: the server's configuration names its file by path. Only models stored by \
                 `loggia pull` can be deleted."
            ),
            Self::Adapter => format!(
                "The model `{model}` cannot be deleted: it is a LoRA adapter in the server's configuration. Remove it there."
            ),
            Self::NeededBy { other } => {
                format!(
                    "The model `{model}` cannot be deleted: the model `{other}` uses the same file."
                )
            }
            Self::InUse => {
                format!(
                    "The model `{model}` is being loaded or is answering requests. Delete it when they have finished."
                )
            }
            Self::FileStays => {
                format!(
                    "The file of the model `{model}` could not be removed; see the server's log for the reason."
                )
            }
        }
    }
}

/// A phase of a call that has a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// While connecting to the engine.
    Connect,
    /// Waiting for the head of the response. The engine may load the model and process the prompt
    /// in this phase.
    Headers,
    /// Waiting for more of the response.
    Idle,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "to accept a connection",
            Self::Headers => "to begin an answer",
            Self::Idle => "to send more of an answer",
        })
    }
}

impl BackendError {
    /// OpenAI's code and type for an account without quota.
    pub const NO_QUOTA: &'static str = "insufficient_quota";

    /// Creates the error for a model that does not exist.
    pub fn model_not_found(model: impl Into<String>) -> Self {
        Self::ModelNotFound {
            model: model.into(),
            nearest: None,
        }
    }

    /// Creates the error for a `logit_bias` on a token outside of the vocabulary, which has
    /// `vocabulary` tokens.
    pub fn no_such_token(token: &str, vocabulary: u64) -> Self {
        let last = vocabulary.saturating_sub(1);
        Self::InvalidRequest {
            message: format!("'{token}' is not a token of this model; its tokens are 0 to {last}."),
            param: Some(format!("logit_bias.{token}")),
            code: Some("invalid_value".to_owned()),
        }
    }

    /// Converts a refusal of Loggia's own API key, for requests that no client sent (for example
    /// the list of models).
    #[must_use]
    pub(crate) fn of_credentials(self, backend: &str) -> Self {
        match self {
            Self::Refused {
                status: 401..=403,
                message,
                ..
            } => Self::Credentials {
                backend: backend.to_owned(),
                message: Some(message),
            },
            other => other,
        }
    }

    /// Returns the name of the error, for logs. An engine's message is not logged, because it may
    /// quote the client.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ModelNotFound { .. } => "model_not_found",
            Self::NoModels => "no_models",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::ContextLengthExceeded { .. } => "context_length_exceeded",
            Self::EmptyPrompt => "empty_prompt",
            Self::InputTooLong { .. } => "input_too_long",
            Self::Unsupported { .. } => "unsupported",
            Self::NotDeleted { .. } => "not_deleted",
            Self::Busy { .. } => "busy",
            Self::RateLimited { .. } => "rate_limited",
            Self::Refused { .. } => "refused",
            Self::Credentials { .. } => "credentials",
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::TimedOut {
                phase: Phase::Connect,
                ..
            } => "timed_out_connecting",
            Self::TimedOut {
                phase: Phase::Headers,
                ..
            } => "timed_out_before_the_answer",
            Self::TimedOut {
                phase: Phase::Idle, ..
            } => "timed_out_in_the_answer",
            Self::BadAnswer { .. } => "bad_answer",
            Self::CutShort { .. } => "cut_short",
            Self::NodeRemoved { .. } => "node_removed",
            Self::Unfinished => "unfinished",
            Self::Overdue { .. } => "overdue",
            Self::Engine { .. } => "engine",
        }
    }

    /// Returns whether a retry, here or elsewhere, is safe: nothing would be done twice.
    pub fn may_try_again(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut {
                phase: Phase::Connect,
                ..
            } => true,
            Self::RateLimited { code, .. } => code.as_deref() != Some(Self::NO_QUOTA),
            _ => false,
        }
    }
}

fn credentials_message(backend: &str, message: Option<&str>) -> String {
    let refused = format!(
        "the backend `{backend}` refused Loggia's credentials; the API key for it in the server's configuration is missing or wrong"
    );
    match message {
        Some(message) => format!("{refused}. It says: {message}"),
        None => refused,
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|name| format!(". Did you mean `{name}`?"))
        .unwrap_or_default()
}

fn of_tokens(tokens: Option<u64>) -> String {
    tokens
        .map(|tokens| format!(" of {tokens} tokens"))
        .unwrap_or_default()
}
