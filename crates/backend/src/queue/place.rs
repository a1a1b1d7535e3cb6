//! [`PlaceInQueue`]: reports the place of a request that waits in a queue.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Returns the place of a request. `None` if it no longer waits.
type Ask = dyn Fn() -> Option<usize> + Send + Sync;

/// The place of a request in the queue of a backend. The sender of the request creates it, and
/// reads it while the request waits.
#[derive(Clone, Default)]
pub struct PlaceInQueue(Arc<Mutex<Option<Arc<Ask>>>>);

impl PlaceInQueue {
    /// Returns the place: 1 has the next turn. It is an estimate. `None` if the request waits in no
    /// queue.
    pub fn get(&self) -> Option<usize> {
        let ask = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = Option::clone(&ask)?;
        ask()
    }

    /// Sets how a queue is asked.
    pub(super) fn set(&self, ask: impl Fn() -> Option<usize> + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ask));
    }
}

impl fmt::Debug for PlaceInQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlaceInQueue").finish_non_exhaustive()
    }
}
