//! [`Ollama`], over any service that speaks Ollama's API. What it does is in the files beside:
//! `backend.rs`, `chats.rs`, `embed.rs`, `sized.rs`, `facts.rs`, `transport.rs`.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::models::ModelMemory;

/// Ollama behind any tower service that speaks its API.
///
/// `B` is the body that the service takes. Clones share what is known of the models.
pub struct Ollama<S, B> {
    pub(super) service: S,
    pub(super) name: Arc<str>,
    pub(super) known: ModelMemory,
    body: PhantomData<fn() -> B>,
}

impl<S: Clone, B> Clone for Ollama<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            name: Arc::clone(&self.name),
            known: self.known.clone(),
            body: PhantomData,
        }
    }
}

/// A service that speaks Ollama's API, as [`Ollama`] needs it: any body that can be made from bytes
/// in, any body out.
pub trait OllamaService<B>:
    Service<Request<B>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Body: Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B, R> OllamaService<B> for S
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    R: Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = R;
}

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Ollama behind this service. `name` is what errors and `x-loggia-served-by` call it.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        Self {
            service,
            name: name.into(),
            known: ModelMemory::default(),
            body: PhantomData,
        }
    }

    /// With what another [`Ollama`] in front of the same models has learnt of them.
    #[must_use]
    pub fn remembering(self, memory: ModelMemory) -> Self {
        Self {
            known: memory,
            ..self
        }
    }
}
