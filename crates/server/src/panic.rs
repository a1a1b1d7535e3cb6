//! Panics while answering: the request gets a 500. The panic message is neither sent nor logged,
//! because it may quote what the user sent.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body::Body as _;
use loggia_api::{ApiError, Body};
use loggia_wire::frame::sse;

/// The message of a panic.
pub(crate) type PanicMessage = Box<dyn Any + Send>;

/// The 500 for a request whose code panicked.
pub(crate) fn answer(_: PanicMessage) -> Response<Body> {
    error().response()
}

/// Ends a body whose code panicked. Returns its last bytes: the error event of its format.
pub(crate) fn end(body: &mut Body) -> Bytes {
    // An event cannot be a part of a file.
    if body.size_hint().exact().is_some() {
        return Bytes::new();
    }
    let ending = AssertUnwindSafe(|| body.end_with(&error()));
    // The state that a panic left behind can cause another one.
    let last = catch_unwind(ending).unwrap_or_default();
    last.unwrap_or_else(plain_event)
}

/// The error event of OpenAI's chats.
fn plain_event() -> Bytes {
    let mut event = BytesMut::new();
    // Serializing four strings cannot fail.
    let _written = sse::write(&mut event, &error().body());
    event.freeze()
}

/// The error that reports a panic.
pub(crate) fn error() -> ApiError {
    let message = "The server had an internal error. Its operator can find it in the log by the x-request-id of this answer.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).coded("internal_error")
}

/// Logs every panic of the process with its place in the code, without its message: the message may
/// quote what a client sent (slicing a `str` does). The program calls this once at its start.
pub fn log_panics_without_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            place,
            thread = thread.name(),
            "panic: this is a bug, please report it with its place"
        );
    }));
}
