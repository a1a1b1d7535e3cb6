//! The access log: one line per request, written when its answer has ended.
//!
//! The line has the ids of the request and of its trace, the method, route, status, name of the API
//! key, outcome, duration and tokens. `http2=true` marks a request over HTTP/2, `batch=true` a line
//! of a batch, `background=true` the end of a response in the background. Path, query, headers and
//! body are never logged, because they contain what the client sent. What an open console asks for
//! every second has no lines.

use loggia_backend::Trace;

use super::closed::{known_method, outcome_word};
use super::{Closed, Listener};
use crate::live::routes as live;

/// The target of these lines, for log filters.
const TARGET: &str = "loggia_server::access";

/// The listener that writes the access log.
pub(crate) struct Log;

/// Returns whether an open console polls this route every second, so that its lines would hide all
/// others.
fn is_polled(closed: &Closed<'_>) -> bool {
    let is_fine = closed.status.is_some_and(|status| status.is_success());
    is_fine && matches!(closed.route, Some(live::LIVE | live::BACKENDS))
}

impl Listener for Log {
    fn closed(&self, closed: &Closed<'_>) {
        if is_polled(closed) {
            return;
        }
        // An answer that broke off may have no number of prompt tokens.
        let usage = closed.ended.usage.as_ref();
        // The duration is rounded to microseconds.
        let ms = (closed.took.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            target: TARGET,
            request_id = closed.id.map(|id| &*id.0),
            trace_id = closed.trace.map(Trace::trace_id),
            method = known_method(closed.method),
            route = closed.route,
            status = closed.status.map(|status| status.as_u16()),
            key = closed.key,
            http2 = closed.is_http2.then_some(true),
            batch = closed.is_of_batch.then_some(true),
            background = closed.background.map(|_| true),
            outcome = outcome_word(closed.ended.outcome),
            ms,
            prompt_tokens = usage.map(|usage| usage.prompt_tokens).filter(|tokens| *tokens > 0),
            completion_tokens = usage.map(|usage| usage.completion_tokens),
            "answered"
        );
    }
}
