//! When a request's code panics: that request gets a 500, and nobody gets its words, which may be
//! the user's.

use std::any::Any;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use loggia_api::{ApiError, Body};
use loggia_wire::frame::sse;

/// What a panic says.
pub(crate) type Words = Box<dyn Any + Send>;

/// The answer to a request whose code panicked.
pub(crate) fn answer(_: Words) -> Response<Body> {
    error().response()
}

/// The last event of a stream whose code panicked.
pub(crate) fn last_event() -> Bytes {
    let mut event = BytesMut::new();
    // Four strings are always JSON.
    let _written = sse::write(&mut event, &error().body());
    event.freeze()
}

fn error() -> ApiError {
    let message = "the server made a mistake over this request; its operator finds it in the log by the answer's x-request-id";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).coded("internal_error")
}

/// Has every panic of the process logged by its place in the code alone: its words can quote what a
/// client sent (`str` slicing does). For the program to call once, first thing.
pub fn log_panics_without_their_words() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            place,
            thread = thread.name(),
            "panicked; this is a defect, please report its place"
        );
    }));
}
