//! The routes: which requests are for the server itself and which for the door, and what a key lets
//! its holder ask. The layers around them are in `app.rs`.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, Version};
use loggia_api::meter::LimitReport;
use loggia_api::{ApiError, Caller, Door, Route};
use tower::Service;

use crate::body::AnswerBody;
use crate::http2::NoRoom;
use crate::keys::holder::{self, Scope, Scopes};
use crate::keys::{self, Keys as ApiKeys};
use crate::received::ReceivedBody;
use crate::shutdown::{self, EndNow};
use crate::websocket::Sessions;
use crate::{console, health, limits, live, local, metrics, panic};

/// The paths of the admin API begin with this.
const ADMIN: &str = "/admin/";

/// All routes, inside the panic guard: a panic in a route becomes a 500, which the layers see.
#[derive(Clone)]
pub(crate) struct Routes {
    /// Replaced when its settings have changed.
    pub(crate) door: Arc<Door>,
    pub(crate) shared: Arc<Shared>,
}

/// The part of the routes that does not change.
pub(crate) struct Shared {
    /// The server's own routes.
    pub(crate) own: Router,
    /// The responses over `WebSockets`.
    pub(crate) sessions: Arc<Sessions>,
    /// Whether OpenAI's routes require an API key. The routes for health never require one.
    pub(crate) keys: ApiKeys,
    /// Whether `/metrics` is served.
    pub(crate) has_metrics: bool,
}

impl Shared {
    /// Returns the scope that a request lacks for a route of the server itself.
    fn lacking_scope<B>(&self, own_route: &str, request: &Request<B>) -> Option<Scope> {
        let scopes = request.extensions().get::<Scopes>();
        let scopes = scopes.copied().unwrap_or_default();
        let is_admin = scopes.contain(Scope::Admin);
        if own_route.starts_with(ADMIN) {
            let is_read = live::routes::PATHS.contains(&own_route);
            let is_open = is_read && local::is_open_to(&self.keys, request);
            (!is_admin && !is_open).then_some(Scope::Admin)
        } else if own_route == console::responses::PATH && self.keys.are_required() {
            let has_key = request.extensions().get::<Caller>().is_some();
            (!has_key || !scopes.contain(Scope::Chat)).then_some(Scope::Chat)
        } else if own_route == metrics::PATH && self.keys.are_required() {
            (!is_admin && !scopes.contain(Scope::Metrics)).then_some(Scope::Metrics)
        } else {
            None
        }
    }

    /// Returns the error for a request to a route of the API that its key does not allow.
    fn refusal<B>(&self, door: &Door, request: &Request<B>) -> Option<ApiError> {
        let path = request.uri().path();
        if Route::is_open(path) {
            return None;
        }
        if request.extensions().get::<Caller>().is_none() {
            // Without a key, no client may change models.
            let is_required = self.keys.are_required() || door.changes_models_of_ollama(request);
            return is_required.then(|| keys::refusal(request.headers()));
        }
        let scopes = request.extensions().get::<Scopes>();
        let scopes = scopes.copied().unwrap_or_default();
        let changes_models = door.changes_models_of_ollama(request);
        let needed = [Some(scope_of(path)), changes_models.then_some(Scope::Admin)];
        let mut lacking = needed.into_iter().flatten();
        let lacking = lacking.find(|scope| !scopes.contain(*scope));
        lacking.map(holder::out_of_scope)
    }
}

impl Service<Request<ReceivedBody>> for Routes {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReceivedBody>) -> Self::Future {
        let shared = &*self.shared;
        if request.version() == Version::HTTP_2 && request.extensions().get::<NoRoom>().is_some() {
            let errors = self.door.error_format(&request);
            let refused = errors.response(NoRoom::refusal()).map(AnswerBody::from);
            return Box::pin(async move { Ok(refused) });
        }
        let own = health::own_route(request.uri().path());
        if let Some(own) = own.filter(|own| shared.has_metrics || *own != metrics::PATH) {
            if let Some(scope) = shared.lacking_scope(own, &request) {
                let has_key = request.extensions().get::<Caller>().is_some();
                let error = if has_key {
                    holder::out_of_scope(scope)
                } else {
                    keys::refusal(request.headers())
                };
                let refused = error.response().map(AnswerBody::from);
                return Box::pin(async move { Ok(refused) });
            }
            let (mut own, request) = (shared.own.clone(), request.map(Body::new));
            return Box::pin(async move {
                match AssertUnwindSafe(own.call(request)).catch_unwind().await {
                    Ok(answer) => answer.map(|answer| answer.map(AnswerBody::from)),
                    Err(message) => Ok(panic::answer(message).map(AnswerBody::from)),
                }
            });
        }
        // The settings of this request, whatever changes while it runs.
        if !self.door.is_current() {
            self.door = Arc::new(self.door.current());
        }
        let door = Arc::clone(&self.door);
        if let Some(refusal) = shared.refusal(&door, &request) {
            // The body has not been read yet.
            let refused = door.error_format(&request).response(refusal);
            return Box::pin(async move { Ok(refused.map(AnswerBody::from)) });
        }
        if let Some(answer) = shared.sessions.answer(&request) {
            return Box::pin(async move { Ok(answer) });
        }
        if shared.keys.have_limits() {
            let report = Arc::<LimitReport>::default();
            request.extensions_mut().insert(report);
        }
        Box::pin(answer_guarded(door, request).map(Ok))
    }
}

/// Answers a request through the door. A panic becomes a 500, which the layers see, and so does the
/// error of a server that stops.
pub(crate) fn answer_guarded(
    door: Arc<Door>,
    request: Request<ReceivedBody>,
) -> impl Future<Output = Response<AnswerBody>> + Send {
    let errors = door.error_format(&request);
    let end_now = request.extensions().get::<EndNow>().cloned();
    let report = request.extensions().get::<Arc<LimitReport>>().cloned();
    async move {
        let answer = AssertUnwindSafe(door.serve(request)).catch_unwind();
        let answer = match &end_now {
            Some(end_now) => end_now.unless_set(answer).await,
            None => Some(answer.await),
        };
        let is_anthropic = errors.is_anthropic();
        let mut answer = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(_message)) => errors.response(panic::error()),
            None => errors.response(shutdown::error()),
        };
        if let Some(remaining) = report.as_deref().and_then(LimitReport::get) {
            limits::headers::add(answer.headers_mut(), remaining, is_anthropic);
        }
        answer.map(|body| AnswerBody::ending(body, end_now))
    }
}

/// The scope that a path of the API needs.
fn scope_of(path: &str) -> Scope {
    let of_files = ["/v1/files", "/v1/uploads", "/v1/vector_stores"];
    if of_files.iter().any(|files| path.starts_with(files)) {
        Scope::Files
    } else {
        Scope::Chat
    }
}
