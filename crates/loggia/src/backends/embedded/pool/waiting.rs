//! Requests that want a model: each looks at it, and again whenever something changes, until it has
//! what it wants.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::BackendError;
use tokio::time::Instant;

use super::entry::{Known, Step, Want};
use super::{Entry, Lease, Pool};
use crate::config::KeepAlive;

/// How long a request waits for memory beside models that are always in use, before those get no
/// new requests until it has been served.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

impl Pool {
    /// The use of a model, which is loaded first where it is not. `keep_alive` says how long it is
    /// to stay after this use.
    pub(in super::super) async fn acquire(
        self: &Arc<Self>,
        at: usize,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, BackendError> {
        let want = Want::Use(keep_alive.unwrap_or(self.keep_alive));
        loop {
            // Never without a lease: that is what was wanted.
            if let Some(lease) = self.wait_for(at, want).await? {
                return Ok(lease);
            }
        }
    }

    /// What a model says of itself, for which it has to have been loaded once.
    pub(in super::super) async fn learn(
        self: &Arc<Self>,
        at: usize,
    ) -> Result<Known, BackendError> {
        loop {
            if let Some(known) = self.known(at) {
                return Ok(known);
            }
            self.wait_for(at, Want::Knowledge).await?;
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        at: usize,
        want: Want,
    ) -> Result<Option<Lease>, BackendError> {
        self.is_open.wait().await;
        let mut waiter = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.look(at, want)? {
                Look::Have(lease) => return Ok(Some(lease)),
                Look::Known => return Ok(None),
                Look::Wait => {
                    waiter.get_or_insert_with(|| Waiter::new(self, at));
                    // Patience runs out without any change.
                    let _ = tokio::time::timeout(PATIENCE, changed).await;
                }
            }
        }
    }

    /// Looks at a model once, and loads it, or makes room for it, where that is what it needs.
    fn look(self: &Arc<Self>, at: usize, want: Want) -> Result<Look, BackendError> {
        let (mut models, now) = (self.lock(), Instant::now());
        let another_starves = another_starves(&models, at, now);
        let name = &self.specs[at].name;
        match models[at].step(want, another_starves, now) {
            Step::Have(engine, process) => {
                let pool = Arc::clone(self);
                return Ok(Look::Have(Lease::new(pool, at, process, engine)));
            }
            Step::Known => return Ok(Look::Known),
            Step::Wait => return Ok(Look::Wait),
            Step::Gone => return Err(BackendError::model_not_found(name)),
            Step::NotLoaded => {
                let message =
                    format!("the model `{name}` cannot be loaded; the server's log says why");
                return Err(BackendError::Engine { message });
            }
            Step::Restarting(after) => {
                return Err(BackendError::Busy {
                    retry_after: Some(after),
                });
            }
            Step::Load => {}
        }
        self.fits_at_all(at, &models)?;
        if self.has_room(at, &models) {
            self.begin(at, &mut models[at]);
        } else {
            models[at].hungry_since.get_or_insert(now);
            self.make_room(&mut models);
        }
        Ok(Look::Wait)
    }
}

/// What a look at a model gives.
enum Look {
    Have(Lease),
    Known,
    Wait,
}

/// Whether another model has waited for memory for too long.
fn another_starves(models: &[Entry], at: usize, now: Instant) -> bool {
    let starves = |entry: &Entry| {
        entry
            .hungry_since
            .is_some_and(|since| now.duration_since(since) >= PATIENCE)
    };
    let mut others = models.iter().enumerate().filter(|(other, _)| *other != at);
    others.any(|(_, entry)| starves(entry))
}

/// A request that waits for a model. One that gives up leaves no trace.
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
