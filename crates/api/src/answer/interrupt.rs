//! [`Interrupt`]: ends a stream from outside, with its proper last event.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ApiError;

/// Ends a stream from outside, with its proper last event. It wakes no task: the caller polls the
/// stream afterwards.
#[derive(Debug, Default)]
pub(crate) struct Interrupt(Mutex<Interruption>);

/// A request to end a stream early.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    /// The error that the stream ends with.
    pub(crate) error: Option<ApiError>,
    /// The ids of the inputs that steer the stream's response.
    pub(crate) steers: Vec<Arc<str>>,
}

impl Interrupt {
    /// Lets the stream end with an error.
    pub(crate) fn fail(&self, error: ApiError) {
        self.lock().error = Some(error);
    }

    /// Adds an input that steers the stream's response.
    pub(crate) fn steer(&self, id: Arc<str>) {
        self.lock().steers.push(id);
    }

    /// Takes the interruption, so that it happens once.
    pub(crate) fn take(&self) -> Interruption {
        std::mem::take(&mut *self.lock())
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Interruption> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
