//! The room for connections: a limit of how many may be open.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::account::{Entered, InFlight};
use crate::{Metrics, ServerOptions};

/// The room for connections.
pub(crate) struct Room {
    places: Arc<Semaphore>,
    /// The gauge of open connections.
    open: Option<InFlight>,
}

/// An open connection, as it counts against the limit. Dropping this ends the count.
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
    _open: Option<Entered>,
}

impl Place {
    /// Returns one more place, for another request on the same connection; `None` if there is none.
    pub(crate) fn beside(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(self.permit.semaphore());
        places.try_acquire_owned().ok()
    }
}

impl Room {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        Self {
            places: Arc::new(Semaphore::new(options.max_connections)),
            open: options.metrics.as_ref().map(Metrics::connections),
        }
    }

    /// Waits until there is room for one more connection.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.places).acquire_owned().await
    }

    /// Counts a connection that has arrived as open.
    pub(crate) fn enter(&self, permit: OwnedSemaphorePermit) -> Place {
        Place {
            permit,
            _open: self.open.as_ref().map(InFlight::enter),
        }
    }
}
