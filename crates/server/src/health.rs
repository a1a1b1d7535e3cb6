//! `/healthz` and `/readyz`, for the operator of the server, and the common part of the server's
//! own routes: their paths, 404 and 405.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use loggia_api::{ApiError, Door};

use crate::keys::admin;
use crate::live::routes as live;
use crate::{console, metrics, nodes};

/// Returns the path if it is one of the server's own routes, else `None`.
pub(crate) fn own_route(path: &str) -> Option<&'static str> {
    let own = ["/healthz", "/readyz", metrics::PATH];
    let mut own = own.into_iter().chain(live::PATHS);
    own.find(|own| *own == path)
        .or_else(|| admin::route(path))
        .or_else(|| nodes::route(path))
        .or_else(|| console::route(path))
}

/// Answers 200 as long as the process runs. It does not ask the backends: restarting this process
/// would not help if one of them is down.
pub(crate) async fn healthz() -> Response<Body> {
    json(r#"{"status":"ok"}"#)
}

/// Answers 200 if a model could answer now, else 503 with the reason.
pub(crate) async fn readyz(door: Door, limit: Duration) -> Response<Body> {
    let reason = match tokio::time::timeout(limit, door.backend().ready()).await {
        Ok(Ok(())) => return json(r#"{"status":"ready"}"#),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "no answer from the backend within {} s",
            limit.as_secs_f32()
        ),
    };
    let message = format!("not ready: {reason}");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        .coded("not_ready")
        .response()
        .map(Body::new)
}

/// Answers 405 to other methods.
pub(crate) async fn only_get(request: Request) -> Response<Body> {
    let path = request.uri().path();
    let methods = match admin::route(path).or_else(|| nodes::route(path)) {
        Some(admin::PATH | nodes::PATH) => "GET, HEAD, POST",
        Some(admin::KEY) => "GET, HEAD, POST, DELETE",
        Some(nodes::NODE) => "GET, HEAD, DELETE",
        Some(_) => "POST",
        None => "GET, HEAD",
    };
    let use_these = methods.replace(" HEAD,", "").replace(", HEAD", "");
    let message = format!(
        "Not allowed to {} on {path}; use {use_these}.",
        request.method()
    );
    let refusal =
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).coded("method_not_supported");
    let mut response = refusal.response().map(Body::new);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// Answers 404: the app has no store of keys, no nodes, or no console.
pub(crate) async fn unknown(request: Request) -> Response<Body> {
    let path = request.uri().path();
    let lacks = if admin::route(path).is_some() {
        "store of API keys"
    } else if nodes::route(path).is_some() {
        "nodes that can be changed"
    } else {
        "console"
    };
    let message = format!(
        "Invalid URL ({} {path}): this server has no {lacks}.",
        request.method()
    );
    let error = ApiError::new(StatusCode::NOT_FOUND, message).coded("unknown_url");
    error.response().map(Body::new)
}

fn json(body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
