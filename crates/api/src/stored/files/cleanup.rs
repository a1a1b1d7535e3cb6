//! Deletes files and uploads that have expired, and contents that a killed server left behind.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::{Files, StoredFile, stored, uploads};
use crate::Door;
use crate::answer::id;
use crate::store::blobs::{Leftovers, in_pages, object_of};
use crate::store::{Claimed, Kind, ObjectRef, Owner, StoreError};

/// How often expired files are looked for.
const EVERY: Duration = Duration::from_secs(30);

/// How long the deletion of one object may take, before another server tries it.
const HELD_FOR: Duration = Duration::from_mins(1);

/// How often contents without an object are looked for.
const SWEPT_EVERY: Duration = Duration::from_hours(1);

impl Door {
    /// Cleans up files until it is dropped: it deletes the `leftovers` that belong to no object and,
    /// periodically, expired files and further leftovers. `leftovers` are those of
    /// [`Blobs::leftovers`](crate::Blobs::leftovers), which was called before this server wrote
    /// anything.
    pub async fn keep_files(self, leftovers: Leftovers) {
        let Some(files) = self.files_of(Owner::NOBODY) else {
            return;
        };
        let mut sweep = Sweep::of(leftovers);
        loop {
            if sweep.begun.elapsed() >= SWEPT_EVERY {
                match files.blobs.leftovers().await {
                    Ok(leftovers) => sweep = Sweep::of(leftovers),
                    Err(error) => {
                        tracing::warn!(%error, "contents without a file cannot be looked for");
                    }
                }
            }
            if let Err(error) = files.sweep(&mut sweep).await {
                tracing::warn!(%error, "contents without a file could not be deleted");
            }
            while let Some(expired) = files.expired().await {
                files.remove(expired).await;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// The deletion of contents that belong to no object.
struct Sweep {
    begun: Instant,
    leftovers: Leftovers,
    /// Places that are not looked up yet.
    page: Vec<String>,
}

impl Sweep {
    fn of(leftovers: Leftovers) -> Self {
        Self {
            begun: Instant::now(),
            leftovers,
            page: Vec::new(),
        }
    }
}

impl Files {
    /// Deletes the contents that belong to no object. If the store does not work, the next call goes
    /// on.
    async fn sweep(&self, sweep: &mut Sweep) -> Result<(), StoreError> {
        loop {
            if sweep.page.is_empty() {
                match sweep.leftovers.try_next().await {
                    Ok(Some(page)) => sweep.page = page,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        // The next sweep looks for them again.
                        sweep.leftovers = in_pages(Vec::new());
                        return Err(error);
                    }
                }
            }
            let page = &sweep.page;
            let ids: HashSet<&str> = page.iter().map(|place| object_of(place)).collect();
            let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
            let existing = self.store.existing(&ids).await?;
            let existing = HashSet::<String>::from_iter(existing);
            for place in page.iter().filter(|one| !existing.contains(object_of(one))) {
                self.discard(place).await;
            }
            sweep.page.clear();
        }
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
