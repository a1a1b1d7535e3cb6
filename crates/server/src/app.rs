//! The app: the server's own routes, OpenAI's behind them, and every layer around both.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Response;
use loggia_api::{Caller, Door, Policy};
use loggia_backend::Backend;
use tower::{Service, ServiceBuilder};

use crate::account::{AccountLayer, Log};
use crate::body::AnswerBody;
use crate::cors::PagesLayer;
use crate::keys::CallerLayer;
use crate::request_id::RequestIdLayer;
use crate::{InFlight, ServerOptions, health, keys, panic};

/// What the app is made of.
#[derive(Clone)]
pub struct AppState {
    backend: Arc<dyn Backend>,
    door: Door,
    options: ServerOptions,
    in_flight: InFlight,
}

impl AppState {
    /// The API over this backend, as the policy says.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy, options: ServerOptions) -> Self {
        let door = Door::new(backend.clone(), policy);
        Self {
            backend,
            door,
            options,
            in_flight: InFlight::default(),
        }
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}

/// The app as a value: nothing listens yet.
pub fn app(state: AppState) -> Router {
    let AppState {
        backend,
        door,
        options,
        in_flight,
    } = state;
    let ready_within = options.ready_timeout;
    let own = Router::new()
        .route("/healthz", get(health::healthz))
        .route(
            "/readyz",
            get(move || health::readyz(backend, ready_within)),
        )
        .method_not_allowed_fallback(health::only_get);
    // One service, and not a handler within axum's layers: those are put together anew, and boxed,
    // for each request.
    Router::new().fallback_service(
        // Outermost first.
        ServiceBuilder::new()
            // Every answer bears its id: a preflight, a panic's 500 and an unknown route too.
            .layer(RequestIdLayer)
            // Says whose key it is, to the log too, and leaves refusing to the routes: a preflight
            // bears no key.
            .layer(CallerLayer::new(options.keys.clone()))
            // Sees the status that the client sees; its account lasts as long as the body.
            .layer(AccountLayer::new(in_flight, vec![Box::new(Log)]))
            // Answers preflights before anything asks for a key, and lets a page read every error,
            // a panic's too.
            .layer(PagesLayer::new(&options.origins, !options.keys.is_empty()))
            .service(Routes {
                door,
                own,
                asks_for_a_key: !options.keys.is_empty(),
            }),
    )
}

/// The paths of the server's own; all others are the door's.
pub(crate) fn own_route(path: &str) -> Option<&'static str> {
    ["/healthz", "/readyz"].into_iter().find(|own| *own == path)
}

/// All routes, within the panic guard: what panics is a route's code, and the layers still see
/// its 500.
#[derive(Clone)]
struct Routes {
    door: Door,
    own: Router,
    /// Of all routes but the server's own.
    asks_for_a_key: bool,
}

impl Service<Request> for Routes {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if own_route(request.uri().path()).is_some() {
            let mut own = self.own.clone();
            return Box::pin(async move {
                match AssertUnwindSafe(own.call(request)).catch_unwind().await {
                    Ok(answer) => answer.map(|answer| answer.map(AnswerBody::from)),
                    Err(words) => Ok(panic::answer(words).map(AnswerBody::from)),
                }
            });
        }
        let door = self.door.clone();
        if self.asks_for_a_key && request.extensions().get::<Caller>().is_none() {
            // Before its body is read.
            let refused = door.refuse(keys::refusal(request.headers()));
            return Box::pin(async move { Ok(refused.map(AnswerBody::from)) });
        }
        Box::pin(async move {
            let answer = AssertUnwindSafe(door.serve(request)).catch_unwind().await;
            Ok(answer.unwrap_or_else(panic::answer).map(AnswerBody::from))
        })
    }
}
