//! The routes of the admin API that read what the server does.
//!
//! | route | what it returns |
//! |---|---|
//! | `GET /admin/server` | the version, the caller's key, and what the server has |
//! | `GET /admin/live` | the running requests, the last ones that ended, the figures of each second |
//! | `GET /admin/backends` | the models, and the backends with their nodes and queues |
//! | `GET /admin/usage` | what each API key has used |

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::get;
use http::{Response, StatusCode, Uri};
use loggia_api::store::{UsageAmount, UsageStore};
use loggia_api::{ApiError, Caller};
use serde_json::json;

use super::Live;
use super::backends::ShownBackends;
use crate::clock::{today, unix_seconds};
use crate::keys::holder::Scopes;
use crate::{InFlight, Keys, LastReload, json_answer};

pub(crate) const SERVER: &str = "/admin/server";
pub(crate) const LIVE: &str = "/admin/live";
pub(crate) const BACKENDS: &str = "/admin/backends";
pub(crate) const USAGE: &str = "/admin/usage";

/// All paths of these routes.
pub(crate) const PATHS: [&str; 4] = [SERVER, LIVE, BACKENDS, USAGE];

/// The most running requests of one answer.
const MOST_RUNNING: usize = 200;

/// The days of usage, unless a request says otherwise, and the most.
const USUAL_DAYS: i64 = 30;
const MOST_DAYS: i64 = 3660;

/// The sources that the routes read.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) live: Live,
    pub(crate) backends: ShownBackends,
    pub(crate) keys: Keys,
    pub(crate) usage: Option<Arc<dyn UsageStore>>,
    pub(crate) requests: InFlight,
    pub(crate) has_store: bool,
    pub(crate) has_key_store: bool,
    pub(crate) has_nodes: bool,
    pub(crate) last_reload: Option<LastReload>,
}

/// Returns the routes.
pub(crate) fn routes(sources: Sources) -> Router {
    Router::new()
        .route(SERVER, get(server))
        .route(LIVE, get(live))
        .route(BACKENDS, get(backends))
        .route(USAGE, get(usage))
        .with_state(sources)
}

async fn server(State(sources): State<Sources>, request: Request) -> Response<Body> {
    let caller = request.extensions().get::<Caller>();
    let scopes = request.extensions().get::<Scopes>();
    let key = caller.map(|caller| {
        let scopes = scopes.copied().unwrap_or_default().listed();
        json!({"name": &*caller.name, "scopes": scopes})
    });
    json_answer(&json!({
        "object": "server",
        "version": env!("CARGO_PKG_VERSION"),
        "key": key,
        "keys_required": sources.keys.are_required(),
        "configured_keys": sources.keys.configured_names(),
        "has_store": sources.has_store,
        "has_key_store": sources.has_key_store,
        "has_nodes": sources.has_nodes,
        "last_reload": sources.last_reload.as_ref().and_then(LastReload::shown),
        "has_usage": sources.usage.is_some(),
    }))
}

async fn live(State(sources): State<Sources>, uri: Uri) -> Response<Body> {
    let after = number(&uri, "after").unwrap_or(i64::MIN);
    let (running, count) = sources.live.0.registry.shown(MOST_RUNNING);
    let (seconds, ended) = {
        let recent = sources.live.recent();
        let ended = recent.ended.iter().rev();
        let ended = ended.filter(|request| request.ended_at >= after);
        (
            recent.seconds.after(after),
            ended.cloned().collect::<Vec<_>>(),
        )
    };
    json_answer(&json!({
        "object": "live",
        "now": unix_seconds(),
        "running": running,
        "running_count": count,
        "requests_in_flight": sources.requests.count(),
        "ended": ended,
        "seconds": seconds,
    }))
}

async fn backends(State(sources): State<Sources>) -> Response<Body> {
    json_answer(&sources.backends.shown().await)
}

async fn usage(State(sources): State<Sources>, uri: Uri) -> Response<Body> {
    let Some(store) = &sources.usage else {
        let message = "This server has no store, so it keeps no usage of API keys.";
        let error = ApiError::new(StatusCode::NOT_FOUND, message).coded("no_store");
        return error.response().map(Body::new);
    };
    let days = number(&uri, "days").unwrap_or(USUAL_DAYS);
    let since = today() - days.clamp(1, MOST_DAYS) + 1;
    let rows = match store.usage_since(since).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "the usage of API keys cannot be read");
            let message = "The usage of API keys cannot be read now.";
            let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
            return error.coded("store_unavailable").response().map(Body::new);
        }
    };
    let data = rows.iter().map(|row| {
        let UsageAmount {
            requests,
            incomplete,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
        } = row.amount;
        json!({
            "day": row.day,
            "key": row.key,
            "model": row.model,
            "requests": requests,
            "incomplete": incomplete,
            "prompt_tokens": prompt_tokens,
            "cached_tokens": cached_tokens,
            "completion_tokens": completion_tokens,
        })
    });
    json_answer(&json!({
        "object": "list",
        "first_day": since,
        "today": today(),
        "data": data.collect::<Vec<_>>(),
    }))
}

/// Returns a number of the query, if it has one of this name.
pub(crate) fn number(uri: &Uri, name: &str) -> Option<i64> {
    let mut fields = uri
        .query()?
        .split('&')
        .filter_map(|field| field.split_once('='));
    fields.find_map(|(field, value)| (field == name).then(|| value.parse().ok())?)
}
