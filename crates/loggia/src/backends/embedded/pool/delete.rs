//! How a model leaves the pool for good: unloaded first, then its files are removed.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::{BackendError, NotDeleted};

use super::Pool;
use super::entry::State;
use super::running::GRACE;

/// How long answers under way may take to end before a deletion is refused for them.
const UNUSED_WITHIN: Duration = Duration::from_secs(5);

/// How long an engine that is told to end may take for it altogether: it is killed after [`GRACE`].
const UNLOADED_WITHIN: Duration = GRACE.saturating_mul(2);

impl Pool {
    /// Deletes a model: no request gets it from now on, its engine ends, and `remove` removes its
    /// files, on a thread that may wait. Where that fails, the model stays. One that is being
    /// loaded or used gets a moment to finish, and else is not deleted.
    ///
    /// Goes on to its end also where nobody waits for it any more.
    pub(in crate::backends) async fn delete(
        self: &Arc<Self>,
        at: usize,
        remove: impl FnOnce() -> Result<(), NotDeleted> + Send + 'static,
    ) -> Result<(), BackendError> {
        let model = self.specs()[at].name.clone();
        let refused = |why| BackendError::NotDeleted {
            model: model.clone(),
            why,
        };
        if self.is_open.get().is_none() {
            return Err(refused(NotDeleted::InUse));
        }
        let unused = self.until(|models| models[at].is_unused());
        let _however_it_ends = tokio::time::timeout(UNUSED_WITHIN, unused).await;
        self.take_leave(at)?;
        let pool = Arc::clone(self);
        let deleting = self.runtime.spawn(async move {
            let deleted = pool.deleted(at, remove).await;
            pool.has_left(at, deleted.is_ok());
            deleted
        });
        match deleting.await {
            Ok(Ok(())) => {
                tracing::info!(model, "a model was deleted");
                Ok(())
            }
            Ok(Err(why)) => Err(refused(why)),
            Err(_) => Err(refused(NotDeleted::FileStays)),
        }
    }

    /// Marks a model that nobody uses as leaving, and unloads it.
    fn take_leave(self: &Arc<Self>, at: usize) -> Result<(), BackendError> {
        let mut models = self.lock();
        let entry = &mut models[at];
        if entry.leaving {
            return Err(BackendError::model_not_found(&self.specs[at].name));
        }
        if !entry.is_unused() {
            return Err(BackendError::NotDeleted {
                model: self.specs[at].name.clone(),
                why: NotDeleted::InUse,
            });
        }
        entry.leaving = true;
        if matches!(entry.state, State::Loaded(_)) {
            self.unload(at, entry, "it is being deleted");
        }
        Ok(())
    }

    async fn deleted(
        &self,
        at: usize,
        remove: impl FnOnce() -> Result<(), NotDeleted> + Send + 'static,
    ) -> Result<(), NotDeleted> {
        let ended = self.until(|models| !matches!(models[at].state, State::Unloading));
        tokio::time::timeout(UNLOADED_WITHIN, ended)
            .await
            .map_err(|_| NotDeleted::InUse)?;
        tokio::task::spawn_blocking(remove)
            .await
            .unwrap_or(Err(NotDeleted::FileStays))
    }

    fn has_left(&self, at: usize, for_good: bool) {
        {
            let entry = &mut self.lock()[at];
            entry.leaving = for_good;
            if for_good {
                entry.state = State::Deleted;
            }
        }
        self.changed.notify_waiters();
    }
}
