//! A store that is late or fails, for tests of what happens then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::future::BoxFuture;
use loggia_api::store::{
    Change, ChunkSearch, Claimed, Count, Filter, FoundChunk, Item, Kind, Listed, Metadata, Object,
    ObjectRef, Owner, Page, Side, StoreError,
};
use loggia_api::{MemoryStore, Store};
use tokio::sync::Semaphore;

use super::memory::Stand;

/// Permits that never run out in a test.
const ENOUGH: usize = 1 << 20;

/// A store in front of another one. It waits for permits, and fails when a test wants it to.
pub(super) struct FaultyStore {
    inner: Arc<MemoryStore>,
    /// Each write waits for a permit of this semaphore.
    pub(super) writes: Semaphore,
    /// Gets a permit after each write, before the caller gets its result.
    pub(super) written: Semaphore,
    /// Before an object is read with its items.
    pub(super) reads: Semaphore,
    /// The errors of the next writes that replace an object.
    errors: Mutex<VecDeque<StoreError>>,
}

impl FaultyStore {
    /// Puts a store without faults before the store of a stand.
    pub(super) fn before(stand: &mut Stand) -> Arc<Self> {
        let faulty = Arc::new(Self {
            inner: Arc::clone(&stand.store),
            writes: Semaphore::new(ENOUGH),
            written: Semaphore::new(ENOUGH),
            reads: Semaphore::new(ENOUGH),
            errors: Mutex::default(),
        });
        stand.door = stand
            .door
            .clone()
            .with_store(Arc::clone(&faulty) as Arc<dyn Store>);
        faulty
    }

    /// Makes the next writes that replace an object fail.
    pub(super) fn fail(&self, errors: impl IntoIterator<Item = StoreError>) {
        self.errors.lock().expect("no panic").extend(errors);
    }

    /// How many of the errors have not occurred yet.
    pub(super) fn errors_left(&self) -> usize {
        self.errors.lock().expect("no panic").len()
    }
}

impl Store for FaultyStore {
    fn claim<'a>(
        &'a self,
        kind: Kind,
        holder: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        self.inner.claim(kind, holder, time)
    }

    fn content_bytes<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.inner.content_bytes(owner)
    }

    fn counts<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Count>, StoreError>> {
        self.inner.counts(owner, kind, filter, name)
    }

    fn search<'a>(
        &'a self,
        at: ObjectRef<'a>,
        search: &'a ChunkSearch,
    ) -> BoxFuture<'a, Result<Vec<FoundChunk>, StoreError>> {
        self.inner.search(at, search)
    }

    fn existing<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        self.inner.existing(ids)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.ready()
    }

    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.writes.acquire().await.expect("open").forget();
            let replaces = |change: &Change| matches!(change, Change::Replace { .. });
            if changes.iter().any(replaces) {
                let error = self.errors.lock().expect("no panic").pop_front();
                if let Some(error) = error {
                    return Err(error);
                }
            }
            let written = self.inner.write(owner, changes).await;
            self.written.acquire().await.expect("open").forget();
            written
        })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.inner.object(at)
    }

    fn object_with_items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
    ) -> BoxFuture<'a, Result<(Object, Vec<Item>), StoreError>> {
        Box::pin(async move {
            self.reads.acquire().await.expect("open").forget();
            self.inner.object_with_items(at, side).await
        })
    }

    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>> {
        self.inner.objects(owner, kind, filter, page)
    }

    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.inner.set_metadata(at, metadata)
    }

    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(at)
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        self.inner.items(at, side, page)
    }

    fn chain<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        self.inner.chain(at)
    }

    fn find_items<'a>(
        &'a self,
        owner: &'a Owner,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        self.inner.find_items(owner, ids)
    }

    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>> {
        self.inner.item(at, item)
    }

    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.inner.delete_item(at, item)
    }
}
