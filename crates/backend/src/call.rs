//! [`Call`]: the input of a backend, for every kind of work.

use std::sync::Arc;

use http::request::Parts;
use loggia_wire::openai::{ChatCompletionRequest, CompletionRequest, EmbeddingRequest};
use serde::{Deserialize, Serialize};

use crate::count::estimate;
use crate::queue::PlaceInQueue;
use crate::{BackendError, Trace, WorkKind};

/// A call to a backend. It has a head, which is the same for every kind of work, and the work
/// itself.
///
/// Wrappers that handle only one kind of work use [`ChatCall`], [`CompletionCall`] and
/// [`EmbeddingCall`]. `call.into()` turns the first two into a `Call` for
/// [`Backend::start`](crate::Backend::start).
///
/// ```
/// use std::sync::Arc;
/// use loggia_backend::{Call, CallHead, ChatCall};
///
/// let request = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
/// let chat = ChatCall {
///     head: CallHead::new("chatcmpl-1"),
///     work: Arc::new(serde_json::from_value(request)?),
/// };
/// let call: Call = chat.into();
/// assert_eq!(call.work.model(), "m");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Call<W = Work> {
    /// The part that is the same for every kind of work.
    pub head: CallHead,
    /// The request, already checked. Its `model` is the backend's own name for the model.
    pub work: W,
}

/// A call for a chat.
pub type ChatCall = Call<Arc<ChatCompletionRequest>>;

/// A call for a completion: texts to continue. The choices of all prompts are numbered
/// consecutively.
pub type CompletionCall = Call<Arc<CompletionRequest>>;

/// A call for embeddings. `loggia-api` applies `encoding_format`; backends ignore that field.
pub type EmbeddingCall = Call<Arc<EmbeddingRequest>>;

/// The part of a call that is the same for every kind of work.
#[derive(Clone, Debug)]
pub struct CallHead {
    /// The id of the answer (`chatcmpl-…`, `cmpl-…`), for logs and to distinguish calls.
    pub id: Arc<str>,
    /// The name of the client's API key, for logs and limits. Never the key itself.
    pub caller: Option<Arc<str>>,
    /// Which requests a queue lets run before this one.
    pub priority: Priority,
    /// Reports the request's place in a queue to the client of a stream. `None` if the client does
    /// not want to know.
    pub place: Option<PlaceInQueue>,
    /// The profile: how sampling fields are interpreted.
    pub profile: Profile,
    /// Whether a backend refuses fields that it cannot honour. If false, it ignores them.
    pub strict: bool,
    /// The trace that the client's request belongs to. Passed on to engines over HTTP.
    pub trace: Option<Box<Trace>>,
    /// The head of the client's HTTP request, if the backend is the service behind it
    /// ([`ollama::Ollama`](crate::ollama::Ollama) under `OpenAiLayer`). Its headers and extensions
    /// are forwarded. `None` if the backend is on another host.
    pub forwarded: Option<Arc<Parts>>,
}

impl CallHead {
    /// Creates a head with this id, the default profile, no caller and no request to forward.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            caller: None,
            priority: Priority::default(),
            place: None,
            profile: Profile::default(),
            strict: false,
            trace: None,
            forwarded: None,
        }
    }

    /// Returns the same head with another id.
    #[must_use]
    pub fn with_id(&self, id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            ..self.clone()
        }
    }
}

/// The work of a call that is answered with a stream of events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Work {
    /// `/v1/chat/completions`.
    Chat(Arc<ChatCompletionRequest>),
    /// `/v1/completions`.
    Completion(Arc<CompletionRequest>),
}

impl Work {
    /// Returns the kind of the work.
    pub fn kind(&self) -> WorkKind {
        match self {
            Self::Chat(_) => WorkKind::Chat,
            Self::Completion(_) => WorkKind::Completions,
        }
    }

    /// Returns the name of the model.
    pub fn model(&self) -> &str {
        match self {
            Self::Chat(request) => &request.model,
            Self::Completion(request) => &request.model,
        }
    }

    /// Replaces the name of the model. Copies the request only if it is shared.
    pub fn set_model(&mut self, model: String) {
        match self {
            Self::Chat(request) => Arc::make_mut(request).model = model,
            Self::Completion(request) => Arc::make_mut(request).model = model,
        }
    }

    /// Returns an estimate of the prompt's tokens, without the model's tokenizer.
    pub fn estimated_prompt_tokens(&self) -> u64 {
        match self {
            Self::Chat(request) => estimate::estimate(request),
            Self::Completion(request) => request.prompt.as_ref().map_or(0, estimate::of_prompt),
        }
    }

    /// Returns the most tokens of the answer, all choices together, if the request limits it.
    pub fn answer_limit(&self) -> Option<u64> {
        let (limit, choices) = match self {
            Self::Chat(request) => (request.token_limit(), request.n),
            Self::Completion(request) => (request.max_tokens, request.n),
        };
        let choices = choices.and_then(|n| u64::try_from(n).ok());
        let limit = limit.and_then(|limit| u64::try_from(limit).ok())?;
        Some(limit.saturating_mul(choices.unwrap_or(1).max(1)))
    }

    /// Returns the fields of the request that OpenAI's API does not have.
    pub fn extra(&self) -> &loggia_wire::Extra {
        match self {
            Self::Chat(request) => &request.extra,
            Self::Completion(request) => &request.extra,
        }
    }

    /// Returns the error of a backend that does not support this kind of work.
    pub fn unsupported(&self) -> BackendError {
        BackendError::Unsupported { work: self.kind() }
    }
}

impl EmbeddingCall {
    /// Returns an estimate of the tokens of all inputs, without the model's tokenizer.
    pub fn estimated_prompt_tokens(&self) -> u64 {
        estimate::of_prompt(&self.work.input)
    }
}

impl<W> Call<W> {
    /// Creates a call with this id and work, and defaults in the rest of its head.
    pub fn new(id: impl Into<Arc<str>>, work: impl Into<W>) -> Self {
        Self {
            head: CallHead::new(id),
            work: work.into(),
        }
    }
}

impl From<Arc<ChatCompletionRequest>> for Work {
    fn from(request: Arc<ChatCompletionRequest>) -> Self {
        Self::Chat(request)
    }
}

impl From<Arc<CompletionRequest>> for Work {
    fn from(request: Arc<CompletionRequest>) -> Self {
        Self::Completion(request)
    }
}

impl From<ChatCall> for Call {
    fn from(call: ChatCall) -> Self {
        Self {
            head: call.head,
            work: Work::Chat(call.work),
        }
    }
}

impl From<CompletionCall> for Call {
    fn from(call: CompletionCall) -> Self {
        Self {
            head: call.head,
            work: Work::Completion(call.work),
        }
    }
}

/// Which requests a [`Queue`](crate::queue::Queue) lets run first, from the last to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Batches, background responses, and work of the server itself.
    Background,
    /// `service_tier: flex`.
    Flex,
    /// No `service_tier`, `auto` or `default`.
    #[default]
    Default,
    /// `service_tier: priority` or `fast`, of an API key that may use it.
    High,
}

impl Priority {
    /// The number of priorities.
    pub(crate) const COUNT: usize = 4;

    /// All priorities, from the first to the last.
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::High, Self::Default, Self::Flex, Self::Background];

    /// Returns OpenAI's word for it in the `service_tier` of an answer.
    pub fn service_tier(self) -> &'static str {
        match self {
            Self::High => "priority",
            Self::Default | Self::Background => "default",
            Self::Flex => "flex",
        }
    }
}

/// How sampling fields are interpreted, and details of the answer's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Sampling fields mean what OpenAI's API defines. Absent fields are not sent, so the model's
    /// own defaults apply.
    #[default]
    Openai,
    /// Sampling fields mean what they meant to the middleware of 2024: doubled temperature and
    /// penalties, defaults of 1.0, temperature 0 with a seed, `fp_ollama`, three error types
    /// (`docs/dialects.md`, part 1).
    Original,
}
