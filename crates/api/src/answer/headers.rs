//! What the answers to every kind of work have in common: their headers, and the time they may take.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use loggia_backend::{EarlyEnd, ServedBy};

use crate::Body;

const X_LOGGIA_CHANGED: HeaderName = HeaderName::from_static("x-loggia-changed");
const X_LOGGIA_IGNORED: HeaderName = HeaderName::from_static("x-loggia-ignored");
const X_LOGGIA_SERVED_BY: HeaderName = HeaderName::from_static("x-loggia-served-by");
/// Tells why an engine ended an answer before its model did.
pub(crate) const X_LOGGIA_CUT_SHORT: HeaderName = HeaderName::from_static("x-loggia-cut-short");

/// What the future gives within the time; `None` when that is over, with the future still to be
/// waited for.
pub(crate) async fn within<F: Future + Unpin>(
    time: Option<Duration>,
    future: &mut F,
) -> Option<F::Output> {
    match time {
        Some(time) => tokio::time::timeout(time, future).await.ok(),
        None => Some(future.await),
    }
}

/// Names who gave the answer, and what was changed in the conversation for that.
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

/// What was changed in the conversation, as a header has it.
pub(crate) fn changes(served_by: &ServedBy) -> String {
    served_by
        .changed
        .iter()
        .map(|change| change.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Names what has no effect, where there is such a thing.
pub(crate) fn name_ignored(response: &mut Response<Body>, ignored: &str) {
    if !ignored.is_empty() {
        insert(response, X_LOGGIA_IGNORED, ignored);
    }
}

/// Names why the engine ended the answer before its model did, where it did.
pub(crate) fn name_early_end(response: &mut Response<Body>, why: Option<EarlyEnd>) {
    if let Some(why) = why {
        insert(response, X_LOGGIA_CUT_SHORT, why.as_str());
    }
}

/// Sets a header; a value that is none (a model's name with a line end in it) is left out.
fn insert(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
