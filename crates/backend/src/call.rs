//! A call: what a backend is asked, whatever the kind of work.

use std::sync::Arc;

use http::request::Parts;
use loggia_wire::openai::{ChatCompletionRequest, CompletionRequest, EmbeddingRequest};
use serde::{Deserialize, Serialize};

use crate::{BackendError, WorkKind};

/// One call to a backend: a head that is the same for every kind of work, and the work itself.
///
/// Wrappers that only look at one kind of work use [`ChatCall`], [`CompletionCall`] and
/// [`EmbeddingCall`]; `call.into()` makes the first two a `Call` for
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
    /// What is the same for every kind of work.
    pub head: CallHead,
    /// The request, already checked. Its `model` is the name that the backend knows.
    pub work: W,
}

/// A chat.
pub type ChatCall = Call<Arc<ChatCompletionRequest>>;

/// A completion: texts to continue. The choices of all prompts are numbered one after the other.
pub type CompletionCall = Call<Arc<CompletionRequest>>;

/// Embeddings: inputs to turn into vectors. The door writes the vectors as `encoding_format` asks;
/// the backend ignores that field.
pub type EmbeddingCall = Call<Arc<EmbeddingRequest>>;

/// What every call has, whatever its work.
#[derive(Clone, Debug)]
pub struct CallHead {
    /// The id of the answer (`chatcmpl-…`, `cmpl-…`): for logs, and to tell calls apart.
    pub id: Arc<str>,
    /// The name of the API key that the client used, for logs and limits. Never the key itself.
    pub caller: Option<Arc<str>>,
    /// How sampling fields are read.
    pub profile: Profile,
    /// Whether a backend refuses what turns out to be impossible, rather than leaving it out.
    pub strict: bool,
    /// The head of the client's own HTTP request, where the backend is the service behind it
    /// ([`ollama::Ollama`](crate::ollama::Ollama) under `OpenAiLayer`): its headers and extensions
    /// are sent along. `None` on the way to another host.
    pub forwarded: Option<Arc<Parts>>,
}

impl CallHead {
    /// A head with this id, the default profile, no caller and nothing to forward.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            caller: None,
            profile: Profile::default(),
            strict: false,
            forwarded: None,
        }
    }

    /// The same head with another id.
    #[must_use]
    pub fn with_id(&self, id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            ..self.clone()
        }
    }
}

/// The work of a call whose answer is a stream of events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Work {
    /// `/v1/chat/completions`.
    Chat(Arc<ChatCompletionRequest>),
    /// `/v1/completions`.
    Completion(Arc<CompletionRequest>),
}

impl Work {
    /// Which kind of work this is.
    pub fn kind(&self) -> WorkKind {
        match self {
            Self::Chat(_) => WorkKind::Chat,
            Self::Completion(_) => WorkKind::Completions,
        }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Self::Chat(request) => &request.model,
            Self::Completion(request) => &request.model,
        }
    }

    /// Puts another name of the model in. Copies the request only if somebody else holds it too.
    pub fn set_model(&mut self, model: String) {
        match self {
            Self::Chat(request) => Arc::make_mut(request).model = model,
            Self::Completion(request) => Arc::make_mut(request).model = model,
        }
    }

    /// The fields of the request that OpenAI's API does not have.
    pub fn extra(&self) -> &loggia_wire::Extra {
        match self {
            Self::Chat(request) => &request.extra,
            Self::Completion(request) => &request.extra,
        }
    }

    /// The error of a backend that does not do this kind of work.
    pub fn unsupported(&self) -> BackendError {
        BackendError::Unsupported { work: self.kind() }
    }
}

impl<W> Call<W> {
    /// A call with this id and this work, and nothing else in its head.
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

/// How sampling fields are read, and the quirks of an answer's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As OpenAI's API defines them. Fields that are absent are not sent, so that the model's own
    /// defaults apply.
    #[default]
    Openai,
    /// As the 2024 middleware did: doubled temperature and penalties, defaults of 1.0, a seed that
    /// forces temperature 0, `fp_ollama`, three error types (`docs/dialects.md`, part 1).
    Original,
}
