//! [`Deadline`]: when an answer has taken too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use loggia_backend::BackendError;
use tokio::time::{Instant, Sleep};

/// The time at which an answer must have ended, if there is one, and the time limit that it was
/// computed from.
#[derive(Default)]
pub(crate) struct Deadline(Option<(Pin<Box<Sleep>>, Duration)>);

impl Deadline {
    pub(crate) fn at(end: Option<(Instant, Duration)>) -> Self {
        Self(end.map(|(end, limit)| (Box::pin(tokio::time::sleep_until(end)), limit)))
    }

    /// Returns the deadline of an answer that begins now.
    pub(crate) fn within(limit: Option<Duration>) -> Self {
        Self(limit.map(|limit| (Box::pin(tokio::time::sleep(limit)), limit)))
    }

    /// Resolves to the error of an answer that has taken too long.
    pub(crate) fn poll_error(&mut self, cx: &mut Context<'_>) -> Poll<BackendError> {
        match &mut self.0 {
            Some((sleep, limit)) => sleep.as_mut().poll(cx).map(|()| took_too_long(*limit)),
            None => Poll::Pending,
        }
    }
}

/// Returns the error of an answer that exceeded its time limit.
pub(crate) fn took_too_long(after: Duration) -> BackendError {
    BackendError::Overdue { after }
}
