//! A [`Store`] in the memory of this process: for tests, and for programs that need no more.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;

use super::{
    Filter, Item, Kind, Listed, MOST_BYTES_OF_A_PAGE, Metadata, Object, ObjectRef, Order, Owner,
    Page, Store, StoreError,
};

/// The most bytes of all objects together, unless another limit is given.
const MOST_BYTES: usize = 64 << 20;

/// Keeps objects in this process, up to a limit; the oldest make room for new ones.
#[derive(Debug)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order of their creation.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    object: Object,
    items: Vec<Item>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with room for 64 MiB.
    pub fn new() -> Self {
        Self::with_room_for(MOST_BYTES)
    }

    /// An empty store with room for so many bytes.
    pub fn with_room_for(most_bytes: usize) -> Self {
        Self {
            kept: Mutex::default(),
            most_bytes,
        }
    }

    /// What is kept. Nothing here panics in the middle of a change, so a poisoned lock is whole.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn place(&self, at: ObjectRef<'_>) -> Result<u64, StoreError> {
        let is_it = |entry: &Entry| {
            entry.owner == *at.owner && entry.object.kind == at.kind && entry.object.id == at.id
        };
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| is_it(entry));
        found.map(|(place, _)| *place).ok_or(StoreError::NotFound)
    }

    fn entry(&self, at: ObjectRef<'_>) -> Result<&Entry, StoreError> {
        let place = self.place(at)?;
        self.entries.get(&place).ok_or(StoreError::NotFound)
    }

    fn entry_mut(&mut self, at: ObjectRef<'_>) -> Result<&mut Entry, StoreError> {
        let place = self.place(at)?;
        self.entries.get_mut(&place).ok_or(StoreError::NotFound)
    }

    fn remove(&mut self, place: u64) {
        if let Some(entry) = self.entries.remove(&place) {
            self.bytes -= entry.object.body.len() + length(&entry.items);
        }
    }

    /// Makes room by removing the oldest objects, but not the one at `keep`.
    fn shrink_to(&mut self, most: usize, keep: Option<u64>) {
        while self.bytes > most {
            let oldest = self.entries.keys().find(|place| Some(**place) != keep);
            let Some(&oldest) = oldest else { return };
            self.remove(oldest);
        }
    }
}

impl Store for MemoryStore {
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn create<'a>(
        &'a self,
        owner: &'a Owner,
        object: Object,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let mut entries = kept.entries.values();
            if entries.any(|entry| entry.object.id == object.id) {
                return Err(StoreError::Duplicate { id: object.id });
            }
            distinct(&[], &items)?;
            let bytes = object.body.len() + length(&items);
            if bytes > self.most_bytes {
                return Err(StoreError::Full);
            }
            kept.shrink_to(self.most_bytes - bytes, None);
            kept.bytes += bytes;
            let place = kept.next;
            kept.next += 1;
            let owner = owner.clone();
            let entry = Entry {
                owner,
                object,
                items,
            };
            kept.entries.insert(place, entry);
            Ok(())
        })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move { Ok(self.lock().entry(at)?.object.clone()) })
    }

    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let entries = kept.entries.values();
            let all: Vec<&Object> = entries
                .filter(|entry| entry.owner == *owner && entry.object.kind == kind)
                .map(|entry| &entry.object)
                .collect();
            let of = |object: &Object| (object.id.clone(), object.body.len());
            part(&all, page, of, |object| fits(object, filter))
        })
    }

    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let entry = kept.entry_mut(at)?;
            entry.object.metadata = metadata;
            Ok(entry.object.clone())
        })
    }

    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let place = kept.place(at)?;
            kept.remove(place);
            Ok(())
        })
    }

    fn append<'a>(
        &'a self,
        at: ObjectRef<'a>,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let place = kept.place(at)?;
            let before = kept.entry(at)?;
            distinct(&before.items, &items)?;
            let bytes = length(&items);
            let whole = before.object.body.len() + length(&before.items) + bytes;
            if whole > self.most_bytes {
                return Err(StoreError::Full);
            }
            kept.shrink_to(self.most_bytes - bytes, Some(place));
            kept.bytes += bytes;
            kept.entry_mut(at)?.items.extend(items);
            Ok(())
        })
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let all: Vec<&Item> = kept.entry(at)?.items.iter().collect();
            let of = |item: &Item| (item.id.clone(), item.body.len());
            part(&all, page, of, |_| true)
        })
    }

    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let mut items = kept.entry(at)?.items.iter();
            let found = items.find(|one| one.id == item).cloned();
            found.ok_or(StoreError::ItemNotFound)
        })
    }

    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let entry = kept.entry_mut(at)?;
            let place = entry.items.iter().position(|one| one.id == item);
            let removed = entry.items.remove(place.ok_or(StoreError::ItemNotFound)?);
            let object = entry.object.clone();
            kept.bytes -= removed.body.len();
            Ok(object)
        })
    }
}

fn length(items: &[Item]) -> usize {
    items.iter().map(|item| item.body.len()).sum()
}

/// Whether no id comes twice in an object's items.
fn distinct(there: &[Item], more: &[Item]) -> Result<(), StoreError> {
    let mut ids: HashSet<&str> = there.iter().map(|item| item.id.as_str()).collect();
    match more.iter().find(|item| !ids.insert(&item.id)) {
        Some(twice) => Err(StoreError::Duplicate {
            id: twice.id.clone(),
        }),
        None => Ok(()),
    }
}

fn fits(object: &Object, filter: &Filter) -> bool {
    let mut labels = filter.metadata.iter();
    filter
        .model
        .as_ref()
        .is_none_or(|model| object.model.as_ref() == Some(model))
        && labels.all(|(name, value)| object.metadata.get(name) == Some(value))
}

/// The part of a list that a page asks for; `of` is the id of an entry and its length. The entry that
/// the part begins after need not pass the filter.
fn part<T: Clone>(
    all: &[&T],
    page: &Page,
    of: impl Fn(&T) -> (String, usize),
    passes: impl Fn(&T) -> bool,
) -> Result<Listed<T>, StoreError> {
    let mut ordered: Vec<&T> = all.to_vec();
    if page.order == Order::Descending {
        ordered.reverse();
    }
    if let Some(after) = &page.after {
        let place = ordered.iter().position(|entry| of(entry).0 == *after);
        ordered.drain(..=place.ok_or(StoreError::AfterNotFound)?);
    }
    ordered.retain(|entry| passes(entry));
    let mut bytes = 0;
    let mut data = Vec::new();
    for entry in ordered.iter().take(page.limit) {
        if bytes >= MOST_BYTES_OF_A_PAGE {
            break;
        }
        bytes += of(entry).1;
        data.push((*entry).clone());
    }
    let has_more = ordered.len() > data.len();
    Ok(Listed { data, has_more })
}
