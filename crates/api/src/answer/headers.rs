//! Common parts of all answers: headers, and the time limit.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};
use loggia_backend::{EarlyEnd, ServedBy};

use crate::Body;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_LOGGIA_CHANGED: HeaderName = HeaderName::from_static("x-loggia-changed");
const X_LOGGIA_ESTIMATED: HeaderName = HeaderName::from_static("x-loggia-estimated");
const X_LOGGIA_IGNORED: HeaderName = HeaderName::from_static("x-loggia-ignored");
const X_LOGGIA_SERVED_BY: HeaderName = HeaderName::from_static("x-loggia-served-by");
/// The header with the parts of the input that were dropped.
pub(crate) const X_LOGGIA_TRUNCATED: HeaderName = HeaderName::from_static("x-loggia-truncated");
/// The header with the reason why an engine ended an answer before its model did.
pub(crate) const X_LOGGIA_CUT_SHORT: HeaderName = HeaderName::from_static("x-loggia-cut-short");

/// Waits for the future, up to a time limit. Returns `None` after the limit; the future can still
/// be awaited.
pub(crate) async fn within<F: Future + Unpin>(
    time: Option<Duration>,
    future: &mut F,
) -> Option<F::Output> {
    match time {
        Some(time) => tokio::time::timeout(time, future).await.ok(),
        None => Some(future.await),
    }
}

/// Adds the headers with the backend, the model and the changes to the conversation.
pub(crate) fn name_server(response: &mut Response<Body>, served_by: &ServedBy) {
    let ServedBy {
        backend,
        model,
        node,
        ..
    } = served_by;
    let value = match node {
        Some(node) => [backend, "@", node, "; model=", model].concat(),
        None => [backend, "; model=", model].concat(),
    };
    insert(response, X_LOGGIA_SERVED_BY, &value);
    if !served_by.changed.is_empty() {
        insert(response, X_LOGGIA_CHANGED, &changes(served_by));
    }
}

/// Returns the changes to the conversation as the value of a header.
pub(crate) fn changes(served_by: &ServedBy) -> String {
    served_by
        .changed
        .iter()
        .map(|change| change.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Adds the header `x-loggia-ignored` if any field was ignored.
pub(crate) fn name_ignored(response: &mut Response<Body>, ignored: &str) {
    if !ignored.is_empty() {
        insert(response, X_LOGGIA_IGNORED, ignored);
    }
}

/// Adds the header `x-loggia-truncated` if parts of the input were dropped.
pub(crate) fn name_truncated(response: &mut Response<Body>, truncated: &str) {
    if !truncated.is_empty() {
        insert(response, X_LOGGIA_TRUNCATED, truncated);
    }
}

/// Adds the header `x-loggia-estimated` with the field of the body that is an estimate.
pub(crate) fn name_estimated(response: &mut Response<Body>, field: &str) {
    insert(response, X_LOGGIA_ESTIMATED, field);
}

/// Adds the header `x-loggia-cut-short` if the engine ended the answer before its model did.
pub(crate) fn name_early_end(response: &mut Response<Body>, why: Option<EarlyEnd>) {
    if let Some(why) = why {
        insert(response, X_LOGGIA_CUT_SHORT, why.as_str());
    }
}

/// Adds a header. Omits an invalid value, for example a model name with a line break.
fn insert(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A response whose body is JSON.
pub(crate) fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// A response whose body is a stream of events.
pub(crate) fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx buffers a stream without this header.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
