//! `/healthz` and `/readyz`: what tells whoever runs the server how it is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};
use loggia_backend::Backend;

use crate::refusal::{json, refusal};

/// The process runs. Nothing else is asked: a backend that is down is no reason to kill what stands in front of it.
pub(crate) fn healthz() -> Response<Body> {
    json(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Whether a model could answer now, and if not, why not.
pub(crate) async fn readyz(backend: Arc<dyn Backend>, limit: Duration) -> Response<Body> {
    let reason = match tokio::time::timeout(limit, backend.ready()).await {
        Ok(Ok(())) => return json(StatusCode::OK, r#"{"status":"ready"}"#),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no word from the backend within {} s", limit.as_secs_f32()),
    };
    refusal(StatusCode::SERVICE_UNAVAILABLE, Some("not_ready"), format!("not ready: {reason}"))
}
