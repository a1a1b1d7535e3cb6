//! One line in the log for each request, once its answer has ended.
//!
//! The line has the method, route, status, name of the API key, outcome, duration and tokens. Never
//! a path, a query, a header or a body: what the client sent is the client's.

use http::Method;
use loggia_api::Outcome;

use super::{Closed, Listener};

/// What log filters call these lines.
const TARGET: &str = "loggia_server::access";

/// Writes the line.
pub(crate) struct Log;

impl Listener for Log {
    fn closed(&self, closed: &Closed<'_>) {
        let usage = closed.ended.usage.as_ref();
        // To the microsecond; the digits after that say nothing.
        let ms = (closed.took.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            target: TARGET,
            request_id = closed.id.map(|id| &*id.0),
            method = known(closed.method),
            route = closed.route,
            status = closed.status.map(|status| status.as_u16()),
            key = closed.key,
            outcome = word(closed.ended.outcome),
            ms,
            prompt_tokens = usage.map(|usage| usage.prompt_tokens),
            completion_tokens = usage.map(|usage| usage.completion_tokens),
            "answered"
        );
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Failed => "failed",
        Outcome::Abandoned => "abandoned",
    }
}

/// A method of HTTP's own; any other is a word of the client's.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}
