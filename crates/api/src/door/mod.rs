//! The one door: every request of OpenAI's API goes through [`Door::serve`].

pub(crate) mod caller;
pub(crate) mod content_encoding;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod routes;

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use http::header::UPGRADE;
use http::request::Parts;
use http::{Extensions, HeaderMap, Request, Response};
use loggia_backend::{Abilities, Backend, BackendError, nearest};
use loggia_wire::openai::{ChatCompletionRequest, CompletionRequest};

use crate::answer::headers::within;
use crate::answer::refusal::Refusals;
use crate::answer::stream::took_too_long;
use crate::door::caller::Only;
use crate::door::routes::Handler;
use crate::responses::AskedResponse;
use crate::{ApiError, Body, Caller, Policy, Route, Store, Strictness};

/// The request's id, put among the request's extensions by a server that has one; it goes into the
/// log.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// That of a request, where it has one.
    pub(crate) fn of(parts: &Parts) -> Option<Arc<str>> {
        parts.extensions.get::<Self>().map(|id| Arc::clone(&id.0))
    }
}

/// How long the list of models may take to find the one that was probably meant.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// OpenAI's API over a backend: any HTTP request in, OpenAI's answer out.
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
    pub(crate) policy: Arc<Policy>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Whether the head of the client's request goes along to the backend.
    pub(crate) forwards_head: bool,
}

impl Door {
    /// A door before this backend.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy) -> Self {
        Self {
            backend,
            policy: Arc::new(policy),
            store: None,
            forwards_head: false,
        }
    }

    /// The same door with a store: it honours `store: true` in chats, and has the routes of stored
    /// chat completions and of conversations.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }

    /// A door of the layer's: the backend is the service behind the client's own request, whose
    /// head goes along.
    pub(crate) fn before_the_service_itself(
        backend: Arc<dyn Backend>,
        policy: Arc<Policy>,
    ) -> Self {
        Self {
            backend,
            policy,
            store: None,
            forwards_head: true,
        }
    }

    /// What becomes of fields that a model cannot honour: as the caller's key has it, or the model.
    pub(crate) fn strictness_for(&self, parts: &Parts, model: &str) -> Strictness {
        let its_own = parts
            .extensions
            .get::<Caller>()
            .and_then(|caller| caller.strictness);
        its_own.unwrap_or_else(|| self.policy.strictness_of(model))
    }

    /// Answers one request: a route of OpenAI's API, or 404 or 405 in OpenAI's error shape.
    pub fn serve<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + Send + '_
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send + 'static,
    {
        let route = Route::among(request.method(), request.uri(), self.store.is_some());
        self.answer(route, request)
    }

    /// Answers a request whose route was looked up before.
    pub async fn answer<B>(
        &self,
        route: Result<Route, ApiError>,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let route = match route {
            Ok(route) => route,
            Err(error) if wants_websocket(request.headers()) => {
                return self.refuse(error.without_websocket());
            }
            Err(error) => return self.refuse(error),
        };
        let restricted = self.restricted(request.extensions());
        let door = restricted.as_ref().unwrap_or(self);
        match route.handler() {
            Handler::Chat => door.generate::<ChatCompletionRequest, B>(request).await,
            // Boxed, since they are rarer: every chat would carry the room for them.
            Handler::Completions => Box::pin(door.generate::<CompletionRequest, B>(request)).await,
            Handler::Responses => Box::pin(door.generate::<AskedResponse, B>(request)).await,
            Handler::Embeddings => Box::pin(door.embeddings(request)).await,
            Handler::Models => door.models().await,
            Handler::Model => door.model(route.id()).await,
            Handler::DeleteModel => door.delete_model(route.id(), &request.into_parts().0).await,
            Handler::Chats
            | Handler::StoredChat
            | Handler::UpdateChat
            | Handler::DeleteChat
            | Handler::ChatMessages
            | Handler::CreateConversation
            | Handler::Conversation
            | Handler::UpdateConversation
            | Handler::DeleteConversation
            | Handler::CreateItems
            | Handler::Items
            | Handler::Item
            | Handler::DeleteItem => Box::pin(door.stored(&route, request)).await,
        }
    }

    /// Refuses a request before it is looked at any further.
    pub fn refuse(&self, error: ApiError) -> Response<Body> {
        error.under(self.policy.profile).response()
    }

    /// The door as it is for a [`Caller`] to whom not every model is there.
    fn restricted(&self, extensions: &Extensions) -> Option<Self> {
        let models = extensions.get::<Caller>()?.models.clone()?;
        let backend = Arc::new(Only::new(Arc::clone(&self.backend), models));
        Some(Self {
            backend,
            policy: Arc::clone(&self.policy),
            store: self.store.clone(),
            forwards_head: self.forwards_head,
        })
    }

    /// What a model can do.
    pub(crate) async fn abilities(&self, model: &str) -> Result<Arc<Abilities>, BackendError> {
        match self.backend.abilities(model).await {
            // Boxed, since it is rare: every chat would carry the room for it.
            Err(error @ BackendError::ModelNotFound { .. }) => {
                Err(Box::pin(self.with_nearest(error)).await)
            }
            known => known,
        }
    }

    /// An unknown model's error with the name that was probably meant: one on this caller's own
    /// list.
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

    /// A whole answer, or the error of one that took longer than any may.
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

/// Whether a client asks for a WebSocket.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}
