//! Deleting a model: it is unloaded first, then its files are removed.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::{BackendError, NotDeleted};

use super::Pool;
use super::entry::State;
use super::running::GRACE;

/// How long to wait for running answers before refusing to delete.
const UNUSED_WITHIN: Duration = Duration::from_secs(5);

/// The longest time that an engine needs to end: it is killed after [`GRACE`].
const UNLOADED_WITHIN: Duration = GRACE.saturating_mul(2);

impl Pool {
    /// Deletes a model: no new request uses it, its engine ends, and `remove` removes its files on
    /// a blocking thread. If that fails, the model stays. A model that is being loaded or used gets
    /// a moment to finish.
    ///
    /// The deletion continues if the caller is dropped.
    ///
    /// # Errors
    ///
    /// If the model remains in use, or its files cannot be removed.
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

    /// Marks an unused model as leaving, and unloads it.
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
