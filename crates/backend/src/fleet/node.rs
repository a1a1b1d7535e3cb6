//! [`Node`]: one server of a fleet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::Backend;

/// The age of a node's lists after which they are asked again, in the background.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// One server of a fleet.
pub(super) struct Node {
    /// The number of the node on the board.
    pub(super) at: usize,
    /// The name of the node for clients.
    pub(super) name: Arc<str>,
    /// The location of the node, for operators.
    pub(super) place: Arc<str>,
    pub(super) backend: Arc<dyn Backend>,
    /// Cancelled when the node is removed, which ends the calls in flight.
    pub(super) removal: CancellationToken,
    is_removed: AtomicBool,
    /// When the node was last asked for its lists.
    pub(super) asked: Mutex<Option<Instant>>,
    pub(super) is_asked: AtomicBool,
}

impl Node {
    pub(super) fn new(
        at: usize,
        name: Arc<str>,
        place: Arc<str>,
        backend: Arc<dyn Backend>,
    ) -> Self {
        Self {
            at,
            name,
            place,
            backend,
            removal: CancellationToken::new(),
            is_removed: AtomicBool::new(false),
            asked: Mutex::default(),
            is_asked: AtomicBool::new(false),
        }
    }

    /// Ends the calls in flight.
    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
        self.removal.cancel();
    }

    /// Returns whether the node was removed, without the lock of `removal`.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Returns whether the lists are old and nobody asks for them. Then the caller asks.
    pub(super) fn begins_to_ask(&self) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = asked.is_none_or(|asked| asked.elapsed() >= BELIEVED_FOR);
        is_old && !self.is_asked.swap(true, Ordering::Relaxed)
    }
}
