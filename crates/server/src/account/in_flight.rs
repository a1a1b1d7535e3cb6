//! A gauge, such as that of running requests. A request runs from its head to the last byte of its
//! answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The gauge of running requests. Clones share one count.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Returns the number of running requests.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more request until the returned value is dropped.
    pub(crate) fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }
}

/// Counts one running request until it is dropped.
#[derive(Debug)]
pub(crate) struct Entered(InFlight);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
