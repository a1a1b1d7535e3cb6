//! [`Door::serve`], which handles every request of OpenAI's API.

pub(crate) mod caller;
pub(crate) mod change;
pub(crate) mod content_encoding;
pub(crate) mod form;
pub(crate) mod host;
pub mod meter;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod routes;
pub(crate) mod speaks;
pub(crate) mod temporary_file;

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Buf;
use futures_util::future::{Either, FutureExt as _, ready};
use http::header::UPGRADE;
use http::request::Parts;
use http::{Extensions, Method, Request, Response};
use loggia_backend::fetch_images::WebhookSender;
use loggia_backend::{Abilities, Backend, BackendError, Profile, nearest};
use loggia_seal::Keys;
use loggia_wire::openai::{ChatCompletionRequest, CompletionRequest};
use tokio::runtime::Handle;

use crate::answer::deadline::took_too_long;
use crate::answer::headers::{self, within};
use crate::answer::refusal::Refusals;
use crate::audio::received::RecordingBytes;
use crate::door::caller::Only;
use crate::door::change::Latest;
use crate::door::meter::Meter;
use crate::door::routes::{Handler, Offers};
use crate::door::speaks::Speaks;
use crate::mcp::McpClient;
use crate::ollama;
use crate::responses::accounts::BackgroundListener;
use crate::responses::background::Background;
use crate::responses::live::Live;
use crate::responses::session::local::Budget;
use crate::store::Blobs;
use crate::{ApiError, Body, Caller, Documents, Policy, Route, Store, Strictness};

/// The id of a request, for the log. A server that creates one adds it to the request's extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// Returns the id of a request, if it has one.
    pub(crate) fn of(parts: &Parts) -> Option<Arc<str>> {
        parts.extensions.get::<Self>().map(|id| Arc::clone(&id.0))
    }
}

/// The time limit for the list of models when a similar name is searched.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// OpenAI's API over a backend: takes any HTTP request and returns OpenAI's answer.
///
/// ```
/// use std::sync::Arc;
/// use http_body_util::{BodyExt, Full};
/// use loggia_api::{Door, Policy};
/// # use futures_core::future::BoxFuture;
/// # use loggia_backend::{Abilities, Backend, BackendError, Call, Reply};
/// # use loggia_wire::openai::Model;
/// # struct MyBackend;
/// # impl Backend for MyBackend {
/// #     fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
/// #         Box::pin(async { Ok(Arc::default()) })
/// #     }
/// #     fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
/// #         Box::pin(async move { Err(call.work.unsupported()) })
/// #     }
/// #     fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
/// #         Box::pin(async { Ok(vec![Model::new("mine", 0, "me")]) })
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let door = Door::new(Arc::new(MyBackend), Policy::default());
/// let request = http::Request::get("/v1/models").body(Full::<bytes::Bytes>::default());
/// let answer = door.serve(request.expect("a request")).await;
/// assert_eq!(answer.status(), 200);
/// let body = answer.into_body().collect().await.expect("a body").to_bytes();
/// assert!(body.starts_with(br#"{"object":"list","data":[{"id":"mine""#));
/// # }
/// ```
#[derive(Clone)]
pub struct Door {
    pub(crate) backend: Arc<dyn Backend>,
    /// Computes the vectors of vector stores, whatever models the caller may use.
    pub(crate) embeds: Arc<dyn Backend>,
    pub(crate) policy: Arc<Policy>,
    /// The settings of requests that begin now.
    latest: Arc<RwLock<Latest>>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Keeps the contents of files.
    pub(crate) blobs: Option<Arc<dyn Blobs>>,
    /// Seal data that clients carry for the server, such as encrypted reasoning.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Lists and calls the tools of MCP servers.
    pub(crate) mcp: Option<Arc<dyn McpClient>>,
    /// Fetches documents, and reads PDFs.
    pub(crate) documents: Option<Arc<dyn Documents>>,
    /// The responses that are being made.
    pub(crate) live: Arc<Live>,
    /// The runtime on which background responses are made. `None`: the thread that answers the
    /// request.
    pub(crate) runtime: Option<Handle>,
    /// Gets the accounts of background responses.
    pub(crate) background_listener: Option<Arc<dyn BackgroundListener>>,
    /// Calls the URLs of webhooks.
    pub(crate) webhooks: Option<Arc<WebhookSender>>,
    /// The bytes that all sessions keep.
    pub(crate) sessions: Budget,
    /// The bytes of the recordings that are being received or heard.
    pub(crate) recordings: RecordingBytes,
    /// Limits how much callers use.
    pub(crate) meter: Option<Arc<dyn Meter>>,
    /// Whether the backend receives the head of the client's request.
    pub(crate) forwards_head: bool,
}

/// The format in which the client of a request reads errors: that of OpenAI's API or of Anthropic's.
#[derive(Clone, Debug)]
pub struct ErrorFormat {
    speaks: Speaks,
    profile: Profile,
}

impl ErrorFormat {
    /// Returns whether the client uses Anthropic's API.
    pub fn is_anthropic(&self) -> bool {
        self.speaks.is_anthropic()
    }

    /// Returns the response for an error about the request.
    pub fn response(self, error: ApiError) -> Response<Body> {
        self.speaks.finished(error.under(self.profile).response())
    }
}

impl Door {
    /// Creates a door for this backend.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy) -> Self {
        Self::of(backend, Arc::new(policy))
    }

    /// Creates a door for the layer: the backend is the service behind the client's own request and
    /// receives its head.
    pub(crate) fn before_the_service_itself(
        backend: Arc<dyn Backend>,
        policy: Arc<Policy>,
    ) -> Self {
        Self {
            forwards_head: true,
            ..Self::of(backend, policy)
        }
    }

    fn of(backend: Arc<dyn Backend>, policy: Arc<Policy>) -> Self {
        Self {
            embeds: Arc::clone(&backend),
            latest: Latest::of(&backend, &policy),
            backend,
            policy,
            store: None,
            blobs: None,
            keys: None,
            mcp: None,
            documents: None,
            live: Arc::default(),
            runtime: None,
            background_listener: None,
            webhooks: None,
            sessions: Budget::default(),
            recordings: RecordingBytes::default(),
            meter: None,
            forwards_head: false,
        }
    }

    /// Adds a store. The door then stores responses, and chats with `store: true`, and has the routes
    /// of stored responses, stored chat completions and conversations.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }

    /// Adds a place for the contents of files. With a store too, the door has the routes of files
    /// and uploads.
    #[must_use]
    pub fn with_blobs(self, blobs: Arc<dyn Blobs>) -> Self {
        Self {
            blobs: Some(blobs),
            ..self
        }
    }

    /// Adds keys. The door seals data that clients store for the server with them, and opens it
    /// when the client sends it back.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>) -> Self {
        Self {
            keys: Some(keys),
            ..self
        }
    }

    /// Adds a client for MCP servers. The door then runs tools of the type `mcp`.
    #[must_use]
    pub fn with_mcp(self, mcp: Arc<dyn McpClient>) -> Self {
        Self {
            mcp: Some(mcp),
            ..self
        }
    }

    /// Adds a meter, which limits how much callers use.
    #[must_use]
    pub fn with_meter(self, meter: Arc<dyn Meter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// Adds a reader of documents. The door then fetches documents by URL, and gives models that
    /// cannot read PDFs their text.
    #[must_use]
    pub fn with_documents(self, documents: Arc<dyn Documents>) -> Self {
        Self {
            documents: Some(documents),
            ..self
        }
    }

    /// Sets the runtime that makes background responses. It should outlive the threads that answer
    /// requests.
    #[must_use]
    pub fn with_runtime(self, runtime: Handle) -> Self {
        Self {
            runtime: Some(runtime),
            ..self
        }
    }

    /// Sets who hears how each background response has ended.
    #[must_use]
    pub fn with_background_listener(self, listener: Arc<dyn BackgroundListener>) -> Self {
        Self {
            background_listener: Some(listener),
            ..self
        }
    }

    /// Adds a sender of webhooks. With a store too, the door has the routes of webhook endpoints. Run
    /// [`Self::deliver_webhooks`] beside it.
    #[must_use]
    pub fn with_webhooks(self, sender: Arc<WebhookSender>) -> Self {
        Self {
            webhooks: Some(sender),
            ..self
        }
    }

    /// Returns the responses that are made in the background, so that they can end before the
    /// program does.
    pub fn background(&self) -> Background {
        Background::of(self)
    }

    /// Returns the backend of this door.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Returns the maximum size of a request's body in bytes.
    pub fn body_limit(&self) -> usize {
        self.policy.body_limit
    }

    /// Returns the strictness for a model: that of the caller's key, otherwise that of the model.
    pub(crate) fn strictness_for(&self, parts: &Parts, model: &str) -> Strictness {
        let its_own = parts
            .extensions
            .get::<Caller>()
            .and_then(|caller| caller.strictness);
        its_own.unwrap_or_else(|| self.policy.strictness_of(model))
    }

    /// Answers a request: a route of OpenAI's API, or a 404 or 405 in OpenAI's error format.
    pub fn serve<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + Send + '_
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send + 'static,
    {
        let route = Route::among(request.method(), request.uri(), self.offers());
        self.answer(route, request)
    }

    fn offers(&self) -> Offers<'_> {
        Offers {
            store: self.store.is_some(),
            files: self.blobs.is_some(),
            webhooks: self.webhooks.is_some(),
            ollama: true,
            ollama_api: &self.policy.ollama_api,
        }
    }

    /// Returns whether a request changes the models of an Ollama server by its own API. A server
    /// lets only administrators do that.
    pub fn changes_models_of_ollama<B>(&self, request: &Request<B>) -> bool {
        // The common case, without a look at the routes.
        if self.policy.ollama_api.is_empty() {
            return false;
        }
        let route = Route::among(request.method(), request.uri(), self.offers());
        match route.map(|route| route.handler()) {
            Ok(Handler::OllamaApi(route)) => route.changes_models(),
            _ => false,
        }
    }

    fn speaks<B>(&self, request: &Request<B>) -> Speaks {
        Speaks::of(request, !self.policy.ollama_api.is_empty())
    }

    /// Answers a request whose route is known, in the form of the API that the client speaks.
    ///
    /// This is not an `async fn`, because its future would store the arguments twice, and the
    /// server holds one for each request that waits for an engine.
    pub fn answer<B>(
        &self,
        route: Result<Route, ApiError>,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let speaks = self.speaks(&request);
        match route {
            Ok(route) => {
                let answering = self.answered(route, request, speaks.is_anthropic());
                Either::Left(answering.map(|response| speaks.finished(response)))
            }
            Err(error) => Either::Right(ready(speaks.finished(self.refuse(error)))),
        }
    }

    async fn answered<B>(
        &self,
        route: Route,
        request: Request<B>,
        is_anthropic: bool,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let restricted = self.restricted(request.extensions());
        let door = restricted.as_ref().unwrap_or(self);
        match route.handler() {
            Handler::Chat => door.generate::<ChatCompletionRequest, B>(request).await,
            // Boxed, because these are rarer: every chat would reserve the memory for them.
            Handler::Completions => Box::pin(door.generate::<CompletionRequest, B>(request)).await,
            Handler::Responses => Box::pin(door.responses(request)).await,
            Handler::Compact => Box::pin(door.compact(request)).await,
            Handler::Session => self.refuse(without_upgrade(&request)),
            Handler::InputTokens => Box::pin(door.input_tokens(request)).await,
            Handler::Messages => Box::pin(door.messages(request)).await,
            Handler::CountTokens => Box::pin(door.count_message_tokens(request)).await,
            Handler::Embeddings => Box::pin(door.embeddings(request)).await,
            Handler::Decisions => Box::pin(door.decisions(request)).await,
            Handler::Moderations => Box::pin(door.moderations(request)).await,
            Handler::Audio(handler) => Box::pin(door.audio(handler, request)).await,
            Handler::Rerank => Box::pin(door.rerank(request)).await,
            Handler::Models if is_anthropic => door.model_page(request.uri()).await,
            Handler::Model if is_anthropic => door.model_info(route.id()).await,
            Handler::Models => door.models().await,
            Handler::Model => door.model(route.id()).await,
            Handler::Hello => hello(),
            Handler::OllamaVersion => ollama::version(),
            Handler::OllamaTags => door.ollama_tags().await,
            Handler::OllamaPull => Box::pin(door.ollama_pull(request)).await,
            Handler::OllamaApi(route) => Box::pin(door.ollama_api(route, request)).await,
            Handler::DeleteModel => door.delete_model(route.id(), &request.into_parts().0).await,
            Handler::Stored(handler) => Box::pin(door.stored(handler, &route, request)).await,
            Handler::Files(handler) => Box::pin(door.files(handler, &route, request)).await,
            Handler::VectorStores(handler) => {
                Box::pin(door.of_vector_stores(handler, &route, request)).await
            }
        }
    }

    /// Returns the response for an error before the request is processed.
    pub fn refuse(&self, error: ApiError) -> Response<Body> {
        error.under(self.policy.profile).response()
    }

    /// Returns the format in which the client of this request reads errors.
    pub fn error_format<B>(&self, request: &Request<B>) -> ErrorFormat {
        ErrorFormat {
            speaks: self.speaks(request),
            profile: self.policy.profile,
        }
    }

    /// Returns the door for a [`Caller`] that may not use every model.
    pub(crate) fn restricted(&self, extensions: &Extensions) -> Option<Self> {
        let models = extensions.get::<Caller>()?.models.clone()?;
        let backend = Arc::new(Only::new(Arc::clone(&self.backend), models));
        Some(Self {
            backend,
            ..self.clone()
        })
    }

    /// Returns the abilities for a model.
    pub(crate) async fn abilities(&self, model: &str) -> Result<Arc<Abilities>, BackendError> {
        match self.backend.abilities(model).await {
            // Boxed, because this is rare: every chat would reserve the memory for it.
            Err(error @ BackendError::ModelNotFound { .. }) => {
                Err(Box::pin(self.with_nearest(error)).await)
            }
            known => known,
        }
    }

    /// Adds the most similar name that the caller may use to the error for an unknown model.
    pub(crate) async fn with_nearest(&self, error: BackendError) -> BackendError {
        let BackendError::ModelNotFound { model, .. } = error else {
            return error;
        };
        let listed = tokio::time::timeout(LISTED_WITHIN, self.backend.models()).await;
        let models = listed.ok().and_then(Result::ok).unwrap_or_default();
        let nearest = nearest(&model, models.iter().map(|model| model.id.as_str()))
            .filter(|name| *name != model);
        BackendError::ModelNotFound {
            nearest: nearest.map(str::to_owned),
            model,
        }
    }

    /// Waits for a complete answer, or returns the error for the time limit.
    pub(crate) async fn in_time<F>(
        &self,
        refusals: &Refusals,
        mut answering: Pin<&mut F>,
    ) -> Result<Response<Body>, ApiError>
    where
        F: Future<Output = Result<Response<Body>, ApiError>>,
    {
        let limit = self.policy.ceilings.whole_time;
        let answered = within(limit, &mut answering).await;
        answered.unwrap_or_else(|| {
            let overdue = took_too_long(limit.unwrap_or_default());
            Err(refusals.refuse(overdue))
        })
    }
}

/// `GET /api/hello`, by which Claude Code finds out whether it reaches the server.
fn hello() -> Response<Body> {
    headers::json(Body::whole(&br#"{"message":"hello"}"#[..]))
}

/// Returns the error for `GET /v1/responses` without a server that upgrades the connection.
fn without_upgrade<B>(request: &Request<B>) -> ApiError {
    let path = request.uri().path();
    let error = ApiError::wrong_method(request.method(), path, vec![Method::POST]);
    let upgrade = request.headers().get(UPGRADE);
    let upgrade = upgrade.and_then(|value| value.to_str().ok());
    if upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        error.without_websocket()
    } else {
        error
    }
}
