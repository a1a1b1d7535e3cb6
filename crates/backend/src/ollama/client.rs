//! [`Ollama`], the client of any service that speaks Ollama's API. Its methods are in `backend.rs`,
//! `chats.rs`, `count.rs`, `embed.rs`, `sized.rs`, `facts.rs` and `transport.rs`.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::models::ModelMemory;
use crate::count::cache::CountCache;

/// A backend over any tower service that speaks Ollama's API.
///
/// `B` is the body type of the service's requests. Clones share the cached properties of models.
pub struct Ollama<S, B> {
    pub(super) service: S,
    pub(super) name: Arc<str>,
    pub(super) known: ModelMemory,
    /// The cached token counts of prompts. To count a prompt, Ollama has to process it.
    pub(super) counts: Arc<CountCache>,
    body: PhantomData<fn() -> B>,
}

impl<S: Clone, B> Clone for Ollama<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            name: Arc::clone(&self.name),
            known: self.known.clone(),
            counts: Arc::clone(&self.counts),
            body: PhantomData,
        }
    }
}

/// A service that speaks Ollama's API, as [`Ollama`] needs it: its requests have any body that can
/// be made from bytes, its responses any body.
pub trait OllamaService<B>:
    Service<Request<B>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of responses.
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
    /// Creates the backend over this service. `name` is its name in errors and in
    /// `x-loggia-served-by`.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        Self {
            service,
            name: name.into(),
            known: ModelMemory::default(),
            counts: Arc::default(),
            body: PhantomData,
        }
    }

    /// Shares the cached properties of models with another [`Ollama`] for the same server.
    #[must_use]
    pub fn remembering(self, memory: ModelMemory) -> Self {
        Self {
            known: memory,
            ..self
        }
    }
}
