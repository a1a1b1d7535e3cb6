//! Requests that need a model: each checks it again whenever a state changes.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::BackendError;
use tokio::time::Instant;

use super::entry::{Decision, Known, Need};
use super::{Entry, Lease, Pool};
use crate::config::KeepAlive;

/// How long a request waits for memory while other models are in use, before those get no new
/// requests until it has been served.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

impl Pool {
    /// Leases a model, and loads it first if necessary. `keep_alive` overrides the setting after
    /// this use.
    pub(in super::super) async fn acquire(
        self: &Arc<Self>,
        at: usize,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, BackendError> {
        let want = Need::Use(keep_alive.unwrap_or(self.keep_alive));
        loop {
            // Always a lease: that was requested.
            if let Some(lease) = self.wait_for(at, want).await? {
                return Ok(lease);
            }
        }
    }

    /// Returns a model's description and abilities. Loads the model if it has never been loaded.
    pub(in super::super) async fn learn(
        self: &Arc<Self>,
        at: usize,
    ) -> Result<Known, BackendError> {
        loop {
            if let Some(known) = self.known(at) {
                return Ok(known);
            }
            self.wait_for(at, Need::Knowledge).await?;
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        at: usize,
        want: Need,
    ) -> Result<Option<Lease>, BackendError> {
        self.is_open.wait().await;
        let mut waiter = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on, every change is noticed.
            changed.as_mut().enable();
            match self.look(at, want)? {
                Check::Have(lease) => return Ok(Some(lease)),
                Check::Known => return Ok(None),
                Check::Wait => {
                    waiter.get_or_insert_with(|| Waiter::new(self, at));
                    // The timeout is for `PATIENCE`, whose end changes no state.
                    let _ = tokio::time::timeout(PATIENCE, changed).await;
                }
            }
        }
    }

    /// Looks at the state of a model once. If necessary, starts to load it, or unloads another one
    /// for it.
    fn look(self: &Arc<Self>, at: usize, want: Need) -> Result<Check, BackendError> {
        let (mut models, now) = (self.lock(), Instant::now());
        let another_starves = another_starves(&models, at, now);
        let name = &self.specs[at].name;
        match models[at].step(want, another_starves, now) {
            Decision::Have(engine, process) => {
                let pool = Arc::clone(self);
                return Ok(Check::Have(Lease::new(pool, at, process, engine)));
            }
            Decision::Known => return Ok(Check::Known),
            Decision::Wait => return Ok(Check::Wait),
            Decision::Gone => return Err(BackendError::model_not_found(name)),
            Decision::NotLoaded => {
                let message =
                    format!("the model `{name}` cannot be loaded; the server's log says why");
                return Err(BackendError::Engine { message });
            }
            Decision::Restarting(after) => {
                return Err(BackendError::Busy {
                    retry_after: Some(after),
                });
            }
            Decision::Load => {}
        }
        self.fits_at_all(at, &models)?;
        if self.has_room(at, &models) {
            self.begin(at, &mut models[at]);
        } else {
            models[at].hungry_since.get_or_insert(now);
            self.make_room(&mut models);
        }
        Ok(Check::Wait)
    }
}

/// The result of a check.
enum Check {
    Have(Lease),
    Known,
    Wait,
}

/// Whether a request for another model has been waiting for memory for too long.
fn another_starves(models: &[Entry], at: usize, now: Instant) -> bool {
    let starves = |entry: &Entry| {
        entry
            .hungry_since
            .is_some_and(|since| now.duration_since(since) >= PATIENCE)
    };
    let mut others = models.iter().enumerate().filter(|(other, _)| *other != at);
    others.any(|(_, entry)| starves(entry))
}

/// A waiting request. Dropping this removes the request.
struct Waiter<'a> {
    pool: &'a Pool,
    at: usize,
}

impl<'a> Waiter<'a> {
    fn new(pool: &'a Pool, at: usize) -> Self {
        pool.lock()[at].waiters += 1;
        Self { pool, at }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        {
            let entry = &mut self.pool.lock()[self.at];
            entry.waiters = entry.waiters.saturating_sub(1);
            if entry.waiters > 0 {
                return;
            }
            entry.hungry_since = None;
        }
        self.pool.changed.notify_waiters();
    }
}
