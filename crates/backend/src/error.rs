//! How a backend fails. What the client then sees is decided in one place: `loggia-api`,
//! `error.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::http::TlsFault;

/// Why a backend could not answer, or not to the end. Messages are for the client: no address, no
/// prompt text.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendError {
    /// There is no such model.
    #[error("the model `{model}` does not exist; GET /v1/models lists those that do{}", did_you_mean(.nearest.as_deref()))]
    ModelNotFound {
        /// The name asked for.
        model: String,
        /// The model that was probably meant, among those that the client may use.
        #[serde(default)]
        nearest: Option<String>,
    },
    /// The backend has no model at all.
    #[error("no model is available: pull one, or name a backend that has one")]
    NoModels,
    /// The engine refuses the request as the client wrote it.
    #[error("{message}")]
    InvalidRequest {
        /// For a person.
        message: String,
        /// The field at fault, where known.
        param: Option<String>,
        /// For a program, where there is one.
        code: Option<String>,
    },
    /// Prompt and answer do not fit the context.
    #[error("the prompt{} does not fit this model's context{}", of_tokens(*.prompt_tokens), of_tokens(*.context))]
    ContextLengthExceeded {
        /// Tokens of the prompt, where known.
        prompt_tokens: Option<u64>,
        /// Tokens that fit, where known.
        context: Option<u64>,
    },
    /// There is nothing to read: the prompt has no token.
    #[error("the prompt is empty: there is nothing to answer")]
    EmptyPrompt,
    /// One of several inputs is longer than the model reads at once.
    #[error("an input{} is longer than this model reads at once{}", of_tokens(*.tokens), of_tokens(*.most))]
    InputTooLong {
        /// Which of them, from 0, where known.
        index: Option<usize>,
        /// Its tokens, where known.
        tokens: Option<u64>,
        /// Tokens that it may have, where known.
        most: Option<u64>,
    },
    /// The model, or its backend, is not made for this kind of work.
    #[error("this model does not do {work}")]
    Unsupported {
        /// What was asked for.
        work: WorkKind,
    },
    /// The model is there, but it is not deleted.
    #[error("{}", .why.sentence(.model))]
    NotDeleted {
        /// The model.
        model: String,
        /// Why.
        why: NotDeleted,
    },
    /// The engine has its hands full; another try is safe.
    #[error("the engine is busy; try again later")]
    Busy {
        /// After how long, where known.
        retry_after: Option<Duration>,
    },
    /// The engine, or what stands before it, limits how often it may be asked, or how much.
    #[error("{message}")]
    RateLimited {
        /// For a person.
        message: String,
        /// For a program; [`NO_QUOTA`](Self::NO_QUOTA) where no other try will help.
        code: Option<String>,
        /// After how long it may be asked again, where known.
        retry_after: Option<Duration>,
    },
    /// The engine refuses with a status that tells more than a 400 would: 401, 402, 403, 408,
    /// 409, 422.
    #[error("{message}")]
    Refused {
        /// The status.
        status: u16,
        /// For a person.
        message: String,
        /// The field at fault, where known.
        param: Option<String>,
        /// For a program, where there is one.
        code: Option<String>,
    },
    /// The engine does not accept the API key that the server's configuration has for it, or asks
    /// Loggia itself for one. The client can do nothing about it.
    #[error("{}", credentials_message(backend, message.as_deref()))]
    Credentials {
        /// The backend's name.
        backend: String,
        /// The engine's own words, where it has any.
        message: Option<String>,
    },
    /// Nothing answers at the backend's address.
    #[error("the backend `{backend}` cannot be reached; check that it is running")]
    Unreachable {
        /// The backend's name.
        backend: String,
    },
    /// What answers at the backend's address speaks TLS and should not by its URL, or the reverse.
    #[error("the backend `{backend}` {}", .fault.sentence())]
    Tls {
        /// The backend's name.
        backend: String,
        /// How its URL does not go with it.
        fault: TlsFault,
    },
    /// The backend took too long.
    #[error("the backend `{backend}` took longer than {} s {phase}", .after.as_secs_f32())]
    TimedOut {
        /// The backend's name.
        backend: String,
        /// Doing what.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// What came back is no answer.
    #[error("the backend `{backend}` sent something that is no answer: {what}")]
    BadAnswer {
        /// The backend's name.
        backend: String,
        /// What was wrong with it; never its content.
        what: String,
    },
    /// The connection broke, or the engine ended, before the answer did.
    #[error("the backend `{backend}` ended before the answer did")]
    CutShort {
        /// The backend's name.
        backend: String,
    },
    /// The answer ended without an end: a choice has no `finish_reason`.
    #[error("the engine's answer broke off before its end")]
    Unfinished,
    /// The answer took longer than any may: `Ceilings::whole_time` of the server.
    #[error("the answer took longer than {} s, which is the most this server allows", .after.as_secs_f32())]
    Overdue {
        /// The limit.
        after: Duration,
    },
    /// The engine itself reports a fault.
    #[error("{message}")]
    Engine {
        /// The engine's own words.
        message: String,
    },
}

/// The kinds of work that a model can be asked for. Few are made for all of them.
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

/// Why a model is not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotDeleted {
    /// The engine manages its own models and does not delete them over its API.
    EngineKeepsIt,
    /// The name is an alias.
    Alias {
        /// The model that it stands for.
        of: String,
    },
    /// The model is a file that the configuration names by its path, not one that was pulled.
    OwnFile,
    /// The model is a LoRA adapter laid over another model by the configuration.
    Adapter,
    /// Another model uses the same file.
    NeededBy {
        /// That model.
        other: String,
    },
    /// The model is being loaded or is answering requests. Another try, later, may succeed.
    InUse,
    /// The file could not be removed. The server's log says why.
    FileStays,
}

impl NotDeleted {
    /// Whether the model could be deleted if other models or requests did not use it.
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
                    "`{model}` is an alias and cannot be deleted. To delete the model that it stands for, name `{of}`."
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
                    "The file of the model `{model}` could not be removed; the server's log says why."
                )
            }
        }
    }
}

/// What a backend took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// To accept a connection.
    Connect,
    /// To begin an answer, loading the model and reading the prompt included.
    Headers,
    /// To send more of it.
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
    /// OpenAI's code, and type, for an account that has nothing left.
    pub const NO_QUOTA: &'static str = "insufficient_quota";

    /// There is no such model.
    pub fn model_not_found(model: impl Into<String>) -> Self {
        Self::ModelNotFound {
            model: model.into(),
            nearest: None,
        }
    }

    /// `logit_bias` names a token that a vocabulary of so many does not have.
    pub fn no_such_token(token: &str, vocabulary: u64) -> Self {
        let last = vocabulary.saturating_sub(1);
        Self::InvalidRequest {
            message: format!(
                "'{token}' is no token of this model, which has those from 0 to {last}."
            ),
            param: Some(format!("logit_bias.{token}")),
            code: Some("invalid_value".to_owned()),
        }
    }

    /// The same error where it is Loggia itself that is refused, and not a client's request: for
    /// the models of a backend, for one.
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

    /// Its name, for logs: an engine's own words may hold what the client wrote.
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
            Self::Unfinished => "unfinished",
            Self::Overdue { .. } => "overdue",
            Self::Engine { .. } => "engine",
        }
    }

    /// Whether the same request may be sent again, here or elsewhere, without anything being done
    /// twice.
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
        "the backend `{backend}` refused Loggia's credentials; its API key in the server's configuration is missing or wrong"
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
