//! [`Closed`]: the account of a request whose answer has ended, and its listeners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use loggia_api::{Ended, Outcome, RequestId};
use loggia_backend::Trace;

/// Gets the account of every request when its answer has ended.
pub(crate) trait Listener: Send + Sync {
    /// Called exactly once per request, on the thread that drops the body. It must not block.
    fn closed(&self, closed: &Closed<'_>);
}

/// The account of a request whose answer has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed<'a> {
    pub(crate) id: Option<&'a RequestId>,
    /// The trace that the request is a part of, if it is one.
    pub(crate) trace: Option<&'a Trace>,
    /// The name of the API key, if keys are configured.
    pub(crate) key: Option<&'a str>,
    pub(crate) method: &'a Method,
    /// The path of the route as the routing table has it. `None` if no route matches: a path that
    /// the client chose must not be logged.
    pub(crate) route: Option<&'static str>,
    /// The status; `None` if the client left before it was known.
    pub(crate) status: Option<StatusCode>,
    /// How the answer ended, and the tokens that it used.
    pub(crate) ended: &'a Ended,
    /// When the head of the request arrived.
    pub(crate) opened: Instant,
    /// The time from then to the end of the answer.
    pub(crate) took: Duration,
    /// Whether the answer is a stream of events.
    pub(crate) is_stream: bool,
    /// Whether the request came over HTTP/2.
    pub(crate) is_http2: bool,
    /// Whether the request is a line of a batch. No client waits for its answer.
    pub(crate) is_of_batch: bool,
    /// Set if this is the account of a response in the background, and not that of the request
    /// that asked for it.
    pub(crate) background: Option<Background>,
}

/// Who made a response in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Background {
    /// This server.
    ThisServer,
    /// A server that ended before the response, so that nothing is known of its engine.
    EndedServer,
}

/// The listeners that get the account of every request, in this order.
pub(crate) type Listeners = Arc<[Box<dyn Listener>]>;

/// Returns the word for an outcome, the same in the log, the metrics, the console and the spans.
pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Failed => "failed",
        Outcome::Abandoned => "abandoned",
    }
}

/// Returns the method if HTTP defines it, else `other`, because the client chose the word.
pub(crate) fn known_method(method: &Method) -> &str {
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
