//! [`StoreFollower`]: notices that a store has changed, by a version that is cheap to read.

use std::time::Duration;

use loggia_api::store::StoreError;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the version is read. A change, like a revoked key, takes effect within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Reads a store again whenever its version has changed.
#[derive(Debug)]
pub struct StoreFollower {
    looks: Interval,
    /// The version whose content was read.
    known: Option<i64>,
    works: bool,
}

impl Default for StoreFollower {
    fn default() -> Self {
        Self::new()
    }
}

impl StoreFollower {
    /// Creates a follower that has read nothing yet.
    ///
    /// # Panics
    /// Panics outside a Tokio runtime.
    pub fn new() -> Self {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            looks,
            known: None,
            works: true,
        }
    }

    /// Waits until it is time for the next look, and then calls `read` if the version has changed.
    /// Returns whether the store can be read. `warn` is called once until it can be read again.
    pub async fn look<V, R>(
        &mut self,
        version: impl FnOnce() -> V,
        read: impl FnOnce() -> R,
        warn: impl FnOnce(StoreError),
    ) -> bool
    where
        V: Future<Output = Result<i64, StoreError>>,
        R: Future<Output = Result<(), StoreError>>,
    {
        self.looks.tick().await;
        let looked = match version().await {
            Ok(version) if self.known == Some(version) => Ok(()),
            Ok(version) => {
                // Read after the version, so that no change between the two is missed.
                let read = read().await;
                self.known = read.is_ok().then_some(version);
                read
            }
            Err(error) => Err(error),
        };
        let worked = std::mem::replace(&mut self.works, looked.is_ok());
        if let Err(error) = looked
            && worked
        {
            warn(error);
        }
        self.works
    }
}
