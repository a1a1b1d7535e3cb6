//! Deletes files and uploads that have expired, and contents that a killed server left behind.

use std::collections::HashSet;
use std::time::Duration;

use super::{Files, StoredFile, stored, uploads};
use crate::Door;
use crate::answer::id;
use crate::store::blobs::object_of;
use crate::store::{Claimed, Kind, ObjectRef, Owner, StoreError};

/// How often expired files are looked for.
const EVERY: Duration = Duration::from_secs(30);

/// How long the deletion of one object may take, before another server tries it.
const HELD_FOR: Duration = Duration::from_mins(1);

/// How many contents are looked up at once.
const AT_ONCE: usize = 1000;

impl Door {
    /// Cleans up files until it is dropped: first it deletes the `leftovers` that belong to no
    /// object, then, periodically, expired files. `leftovers` are those of
    /// [`Blobs::leftovers`](crate::Blobs::leftovers), which was called before this server wrote
    /// anything.
    pub async fn keep_files(self, leftovers: Vec<String>) {
        let Some(files) = self.files_of(Owner::NOBODY) else {
            return;
        };
        let mut leftovers = leftovers;
        loop {
            if let Err(error) = files.sweep(&mut leftovers).await {
                tracing::warn!(%error, "contents without a file could not be deleted");
            }
            while let Some(expired) = files.expired().await {
                files.remove(expired).await;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl Files {
    /// Deletes the contents that belong to no object, and forgets all of them.
    async fn sweep(&self, leftovers: &mut Vec<String>) -> Result<(), StoreError> {
        while !leftovers.is_empty() {
            let some = leftovers.split_off(leftovers.len().saturating_sub(AT_ONCE));
            let ids: HashSet<&str> = some.iter().map(|place| object_of(place)).collect();
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            let existing = match self.store.existing(&ids).await {
                Ok(existing) => HashSet::<String>::from_iter(existing),
                Err(error) => {
                    leftovers.extend(some);
                    return Err(error);
                }
            };
            for place in some.iter().filter(|one| !existing.contains(object_of(one))) {
                self.discard(place).await;
            }
        }
        Ok(())
    }

    /// Takes a file, an upload or a content of a batch that has expired.
    async fn expired(&self) -> Option<Claimed> {
        let holder = id::item("cleanup_");
        for kind in [Kind::File, Kind::Upload, Kind::BatchContent] {
            match self.store.claim(kind, &holder, HELD_FOR).await {
                Ok(Some(claimed)) => return Some(claimed),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "expired files cannot be looked for"),
            }
        }
        None
    }

    async fn remove(&self, Claimed { owner, object }: Claimed) {
        let files = self.of(owner);
        let places = match object.kind {
            Kind::Upload => uploads::places(&files, &object.id).await,
            _ => stored(&object).map(|StoredFile { place, .. }| vec![place]),
        };
        if let Err(error) = files.leave_vector_stores(&object.id).await {
            tracing::warn!(%error, "an expired file could not be deleted from its vector stores");
            return;
        }
        let at = ObjectRef {
            owner: &files.owner,
            kind: object.kind,
            id: &object.id,
        };
        match (places, files.store.delete(at).await) {
            (Ok(places), Ok(())) => {
                for place in places {
                    files.discard(&place).await;
                }
            }
            (_, Err(StoreError::NotFound)) => {}
            (_, deleted) => {
                let error = deleted.err();
                tracing::warn!(?error, "an expired file could not be deleted");
            }
        }
    }
}
