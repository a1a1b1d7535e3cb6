//! The seam between OpenAI's API and whatever holds a model, and what stands behind it without C++.
//!
//! Reading order: [`Backend`] (what a backend is), [`ChatCall`] and [`CompletionCall`], [`Reply`]
//! and [`Event`] (what goes in, what comes out), [`EmbeddingCall`] and [`Embeddings`] (the same for
//! vectors), [`BackendError`] (how it goes wrong), [`Abilities`] (what a model's backend can
//! honour), then the backends themselves: [`ollama`] translates; [`openai`] passes through;
//! [`roster`] finds the backend that has a model; [`emulate`] and [`media`] stand around a backend
//! and do what it cannot; [`process`] reaches one in another process; [`conversation`] is what they
//! share: conversations in a form that engines and chat templates take.
//!
//! To add a backend, implement [`Backend`]; three methods are needed.
#![forbid(unsafe_code)]

mod abilities;
pub mod conversation;
pub mod data_url;
mod embedding;
pub mod emulate;
mod error;
mod event;
pub mod http;
pub mod media;
mod nearest;
pub mod ollama;
pub mod openai;
mod passed_on;
pub mod process;
pub mod references;
mod retry_after;
pub mod roster;
pub mod schema;
mod thoughts;
mod tool_calls;

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_wire::openai::{ChatCompletionRequest, CompletionRequest, Model};

pub use abilities::{
    Abilities, Ability, AbilitySet, KnownFields, OptionNames, SchemaEngine, ToolSchemas,
};
pub use embedding::{EmbeddingCall, Embeddings, normalise};
pub use error::{BackendError, NotDeleted, Phase, Work};
pub use event::{Chunk, EarlyEnd, Event, Events, Reply, ServedBy, Waiting, fingerprint};
pub use nearest::nearest;

/// Something that can hold a chat: an engine in the process, a server at an address, or a wrapper
/// around one or many of these.
pub trait Backend: Send + Sync {
    /// What it can honour for this model. Asked before every chat: keep the answer.
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>>;

    /// Starts a chat. Resolves once the engine has accepted it, so that a refusal can still be a
    /// status code. Dropping the reply, or this future, at any time tells the engine to stop.
    fn chat(&self, call: ChatCall) -> BoxFuture<'_, Result<Reply, BackendError>>;

    /// Starts to continue a text. As [`chat`](Self::chat) in all else; what is said is content and
    /// nothing else.
    fn complete(&self, _call: CompletionCall) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(BackendError::Unsupported {
            work: Work::Completions,
        })))
    }

    /// Makes vectors of inputs. Dropping the future tells the engine to stop.
    ///
    /// A backend that overrides it says so by [`Ability::Embeddings`], model by model.
    fn embed(&self, _call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(std::future::ready(Err(BackendError::Unsupported {
            work: Work::Embeddings,
        })))
    }

    /// The models it has.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>>;

    /// One model, with all that is known of it.
    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let models = self.models().await?;
            models
                .into_iter()
                .find(|model| model.id == id)
                .ok_or_else(|| BackendError::model_not_found(id))
        })
    }

    /// Deletes one model for good, with its files, and takes it off the list.
    ///
    /// By default no model can be deleted: [`BackendError::NotDeleted`], or
    /// [`BackendError::ModelNotFound`] for a name that no model has.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.model(id).await?;
            Err(BackendError::NotDeleted {
                model: id.to_owned(),
                why: NotDeleted::EngineKeepsIt,
            })
        })
    }

    /// Whether `asked` is another spelling of the name of its model `listed`: in another case, or
    /// without a part that has a default.
    fn is_called(&self, _listed: &str, _asked: &str) -> bool {
        false
    }

    /// Whether a model could answer now.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            if self.models().await?.is_empty() {
                Err(BackendError::NoModels)
            } else {
                Ok(())
            }
        })
    }
}

/// One chat to hold.
#[derive(Clone, Debug)]
pub struct ChatCall {
    /// The id of the answer, `chatcmpl-…`: for logs, and to tell calls apart.
    pub id: Arc<str>,
    /// What is asked, checked. Its `model` is the name that the backend knows.
    pub request: Arc<ChatCompletionRequest>,
    /// How sampling fields are read.
    pub profile: Profile,
    /// The head of the client's own HTTP request, where the backend is the service behind it
    /// ([`ollama::Ollama`] under `OpenAiLayer`): its headers and extensions go along. `None` on the
    /// way to another host.
    pub head: Option<Arc<::http::request::Parts>>,
}

/// Some texts to continue.
#[derive(Clone, Debug)]
pub struct CompletionCall {
    /// The id of the answer, `cmpl-…`: for logs, and to tell calls apart.
    pub id: Arc<str>,
    /// What is asked, checked. Its `model` is the name that the backend knows. The choices of all
    /// prompts are numbered one after the other.
    pub request: Arc<CompletionRequest>,
    /// How sampling fields are read.
    pub profile: Profile,
    /// The head of the client's own HTTP request, as in [`ChatCall`].
    pub head: Option<Arc<::http::request::Parts>>,
}

/// How sampling fields are read, and the quirks of an answer's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As OpenAI's API defines them; what is absent is not sent, so that the model's own defaults
    /// hold.
    #[default]
    Openai,
    /// As the 2024 middleware did: doubled temperature and penalties, defaults of 1.0, a seed that
    /// forces temperature 0, `fp_ollama`, three error types (`docs/dialects.md`, part 1).
    Original,
}
