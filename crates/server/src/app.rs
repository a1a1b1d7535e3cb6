//! The app: the server's own routes, OpenAI's behind them, and every layer around both.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use loggia_api::{Door, Policy};
use loggia_backend::Backend;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::AccessLayer;
use crate::cors::PagesLayer;
use crate::request_id::RequestIdLayer;
use crate::verdict::judged;
use crate::{InFlight, ServerOptions, health, panic};

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
        Self { backend, door, options, in_flight: InFlight::default() }
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}

/// The app as a value: nothing listens yet.
pub fn app(state: AppState) -> Router {
    let AppState { backend, door, options, in_flight } = state;
    let ready_within = options.ready_timeout;
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(move || health::readyz(backend, ready_within)))
        .method_not_allowed_fallback(health::only_get)
        .fallback(move |request: Request| async move { judged(door.serve(request).await).map(Body::new) })
        .layer(
            // Outermost first.
            ServiceBuilder::new()
                // Every answer bears its id: a preflight, a panic's 500 and an unknown route too.
                .layer(RequestIdLayer)
                // Sees the status that the client sees; its line and its gauge last as long as the body.
                .layer(AccessLayer::new(in_flight))
                // Answers preflights before anything asks for a key, and lets a page read every error, a panic's too.
                .layer(PagesLayer::new(&options.origins))
                // Next to the routes: what panics is a route's code, and all the others still see its 500.
                .layer(CatchPanicLayer::custom(panic::answer)),
        )
}
