//! The layer [`OpenAiLayer`] and its service [`OpenAi`].

use std::fmt::Display;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_core::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use loggia_backend::emulate::Emulate;
use loggia_backend::ollama::{ModelMemory, Ollama, OllamaService};
use tower::{Layer, Service, ServiceExt};

use super::body::EitherBody;
use crate::door::routes::Offers;
use crate::{ApiError, Door, Policy, Route};

/// Adds OpenAI's API to a service that speaks Ollama's API.
///
/// `POST /v1/chat/completions`, `GET /v1/models` and `GET /v1/models/{id}` are answered through the
/// wrapped service's `/api/chat`, `/api/tags` and `/api/show`. All other requests reach the service
/// unchanged. The headers and extensions of a chat request are forwarded, so that the service can
/// still read its keys or tenants from them.
///
/// ```
/// use loggia_api::OpenAiLayer;
/// use tower::Layer;
///
/// // Any axum app that has Ollama's routes.
/// let ollama = axum::Router::new();
/// let app = axum::Router::new().fallback_service(OpenAiLayer::new().layer(ollama));
/// # let _: axum::Router = app;
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenAiLayer {
    policy: Arc<Policy>,
}

impl OpenAiLayer {
    /// Creates a layer with the default [`Policy`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a layer with this policy.
    pub fn with_policy(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
        }
    }
}

impl<S> Layer<S> for OpenAiLayer {
    type Service = OpenAi<S>;

    fn layer(&self, inner: S) -> OpenAi<S> {
        OpenAi {
            inner,
            policy: Arc::clone(&self.policy),
            memory: ModelMemory::default(),
        }
    }
}

/// A service that answers OpenAI's API, and passes everything else to the wrapped service, which
/// speaks Ollama's API.
#[derive(Clone, Debug)]
pub struct OpenAi<S> {
    inner: S,
    policy: Arc<Policy>,
    memory: ModelMemory,
}

impl<S, B, R> Service<Request<B>> for OpenAi<S>
where
    S: OllamaService<B, Body = R> + Service<Request<B>, Response = Response<R>>,
    B: http_body::Body<Data: Buf + Send, Error: Display> + From<Bytes> + Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<EitherBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    /// Always ready. Each call waits for the wrapped service, because it may need it several times.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        match Route::among(request.method(), request.uri(), OFFERS) {
            Ok(route) => {
                let backend = Ollama::new("ollama", inner).remembering(self.memory.clone());
                let backend = Emulate::new(Arc::new(backend));
                let door =
                    Door::before_the_service_itself(Arc::new(backend), Arc::clone(&self.policy));
                Box::pin(async move {
                    Ok(door
                        .answer(Ok(route), request)
                        .await
                        .map(EitherBody::openai))
                })
            }
            Err(error) if is_ours(&error, request.method()) => {
                let response = error.response().map(EitherBody::openai);
                Box::pin(async move { Ok(response) })
            }
            Err(_) => Box::pin(async move {
                inner
                    .oneshot(request)
                    .await
                    .map(|response| response.map(EitherBody::inner))
            }),
        }
    }
}

/// The service has Ollama's routes itself.
const OFFERS: Offers<'static> = Offers {
    store: false,
    files: false,
    webhooks: false,
    ollama: false,
    ollama_api: &[],
};

/// Returns whether an error is answered here: a wrong method on a route of OpenAI's API. `OPTIONS`
/// may be a CORS preflight, which the service handles.
fn is_ours(error: &ApiError, method: &Method) -> bool {
    error.status == StatusCode::METHOD_NOT_ALLOWED && method != Method::OPTIONS
}
