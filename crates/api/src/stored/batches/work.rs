//! The loop that works on batches: takes the batch that has waited longest, for one turn.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::run::{HELD_FOR, Run, Stop};
use super::worker::{BatchWork, Worker};
use super::{schedule, stored};
use crate::Door;
use crate::answer::id;
use crate::store::{Change, Claimed, Kind, Owner, StoreError};

/// The interval between two searches for a batch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a batch rests after a failure of the store.
const REST: Duration = Duration::from_secs(5);

impl Door {
    /// Works on batches, forever. It should run on a runtime that outlives the threads that answer
    /// requests. Each finished line is stored, so it may be dropped at any time.
    pub async fn work_on_batches(self, work: BatchWork) {
        let Some(files) = self.files_of(Owner::NOBODY) else {
            return;
        };
        let worker = Worker::new(self, files, work);
        let holder = id::item("batches_");
        let mut kinds = [Kind::Batch, Kind::MessageBatch];
        let mut works = true;
        loop {
            let claimed = worker.claim(kinds, &holder).await;
            // The kinds take turns.
            kinds.rotate_left(1);
            if let Err(error) = &claimed
                && works
            {
                tracing::warn!(%error, "batches cannot be looked for");
            }
            works = claimed.is_ok();
            match claimed {
                Ok(Some(claimed)) => worker.turn(claimed, &holder).await,
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(_) => sleep(REST).await,
            }
        }
    }
}

impl Worker {
    /// Takes a batch of the first of these kinds that has one.
    async fn claim(&self, kinds: [Kind; 2], holder: &str) -> Result<Option<Claimed>, StoreError> {
        for kind in kinds {
            let claimed = self.files.store.claim(kind, holder, HELD_FOR).await?;
            if claimed.is_some() {
                return Ok(claimed);
            }
        }
        Ok(None)
    }

    /// Works on a batch for a while.
    async fn turn(&self, Claimed { owner, object }: Claimed, holder: &str) {
        let (kind, id) = (object.kind, object.id.clone());
        let caller = owner.key().map(|name| (self.work.caller)(name));
        let files = self.files.of(owner);
        let Ok(stored) = stored(&object) else {
            tracing::warn!(id, "a batch cannot be read");
            return;
        };
        if stored.has_ended() {
            // The batch was kept long enough.
            let deleted = files.store.delete(files.at(kind, &id)).await;
            if deleted.is_ok() && kind == Kind::MessageBatch {
                files.delete_batch_contents(&stored.batch).await;
            }
            return;
        }
        let owner = files.owner.clone();
        let mut run = Run {
            worker: self,
            files,
            kind,
            has_key: caller.as_ref().is_none_or(Option::is_some),
            caller: caller.flatten(),
            holder,
            stored,
            renewed: Instant::now(),
        };
        let rest = match run.turn().await {
            Ok(()) => None,
            Err(Stop::Turn) => Some(Duration::ZERO),
            Err(Stop::Lost) => return,
            Err(Stop::Failed(error)) => {
                tracing::warn!(id, %error, "a batch could not be continued");
                sleep(REST).await;
                Some(REST)
            }
        };
        let mut changes = vec![Change::Release {
            kind,
            id: id.clone(),
            holder: Some(holder.to_owned()),
        }];
        // Other batches have waited longer.
        changes.extend(rest.map(|rest| schedule(kind, &id, id::now() + rest.as_secs())));
        if let Err(error) = self.files.store.write(&owner, changes).await {
            // The hold runs out.
            tracing::debug!(id, %error, "a batch could not be released");
        }
    }
}
