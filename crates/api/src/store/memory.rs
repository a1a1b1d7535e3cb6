//! A [`Store`] in the memory of the process, for tests and for programs that need no file.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Change, Chunk, ChunkSearch, Claimed, Count, Filter, FoundChunk, Item, Kind, Listed,
    MOST_BYTES_OF_A_CHAIN, MOST_BYTES_OF_A_PAGE, MOST_OBJECTS_OF_A_CHAIN, Metadata, NeededHold,
    Object, ObjectRef, Order, Owner, Page, Side, Store, StoreError, similarity,
};
use crate::answer::id;

/// The maximum number of bytes of all objects together, unless another limit is given.
const MOST_BYTES: usize = 64 << 20;

/// The length of a hold whose end is beyond what the clock can represent.
const LONGEST_HOLD: Duration = Duration::from_hours(24 * 365);

/// Keeps objects in memory, up to a limit. New objects replace the oldest.
#[derive(Debug)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// The entries in the order of their creation.
    entries: BTreeMap<u64, Entry>,
    /// The keys of `entries`, by the ids of the objects.
    places: HashMap<String, u64>,
    next: u64,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    object: Object,
    items: Vec<Numbered>,
    hold: Option<Hold>,
    /// When the object is due, in Unix seconds.
    due: Option<u64>,
    /// The bytes of the object's content outside the store.
    content: u64,
    chunks: Chunks,
}

/// The chunks of a file of a vector store.
#[derive(Clone, Debug, Default)]
struct Chunks {
    /// The id of the vector store.
    store: String,
    all: Vec<Chunk>,
    is_complete: bool,
}

/// An item, with a number that is larger than those of all earlier ones.
#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    item: Item,
}

#[derive(Clone, Debug)]
struct Hold {
    holder: String,
    until: Instant,
}

/// The entries that a list of changes has replaced, before they are stored.
struct Draft<'a> {
    kept: &'a Kept,
    owner: &'a Owner,
    changed: BTreeMap<u64, Entry>,
    next: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Creates an empty store with room for 64 MiB.
    pub fn new() -> Self {
        Self::with_room_for(MOST_BYTES)
    }

    /// Creates an empty store with room for this many bytes.
    pub fn with_room_for(most_bytes: usize) -> Self {
        Self {
            kept: Mutex::default(),
            most_bytes,
        }
    }

    /// Locks the entries. Nothing panics in the middle of a change, so they are consistent even if
    /// the lock is poisoned.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn place(&self, at: ObjectRef<'_>) -> Result<u64, StoreError> {
        let place = *self.places.get(at.id).ok_or(StoreError::NotFound)?;
        let found = self.entries.get(&place);
        let is_it = |entry: &&Entry| entry.owner == *at.owner && entry.object.kind == at.kind;
        let found = found.filter(is_it).map(|_| place);
        found.ok_or(StoreError::NotFound)
    }

    fn entry(&self, at: ObjectRef<'_>) -> Result<&Entry, StoreError> {
        let place = self.place(at)?;
        self.entries.get(&place).ok_or(StoreError::NotFound)
    }

    fn entry_mut(&mut self, at: ObjectRef<'_>) -> Result<&mut Entry, StoreError> {
        let place = self.place(at)?;
        self.entries.get_mut(&place).ok_or(StoreError::NotFound)
    }

    /// Returns the bytes of content of all objects of an owner.
    fn content(&self, owner: &Owner) -> u64 {
        let entries = self.entries.values();
        let own = entries.filter(|entry| entry.owner == *owner);
        own.map(|entry| entry.content).sum()
    }

    /// Deletes the chunks of a vector store.
    fn forget_chunks(&mut self, store: &str) {
        let entries = self.entries.values_mut();
        for entry in entries.filter(|entry| entry.chunks.store == store) {
            let before = entry.bytes();
            entry.chunks = Chunks::default();
            self.bytes -= before - entry.bytes();
        }
    }

    fn remove(&mut self, place: u64) {
        if let Some(entry) = self.entries.remove(&place) {
            self.bytes -= entry.bytes();
            self.places.remove(&entry.object.id);
        }
    }

    /// Stores entries, if necessary in place of the oldest objects.
    fn put(&mut self, changed: BTreeMap<u64, Entry>, most: usize) -> Result<(), StoreError> {
        let after: usize = changed.values().map(Entry::bytes).sum();
        if after > most {
            return Err(StoreError::Full);
        }
        for place in changed.keys() {
            self.remove(*place);
        }
        while self.bytes > most - after {
            let mut entries = self.entries.iter();
            let leaves = entries.find(|(_, entry)| !entry.object.kind.stays());
            let Some((&oldest, _)) = leaves else {
                break;
            };
            self.remove(oldest);
        }
        self.bytes += after;
        let ids = changed
            .iter()
            .map(|(at, entry)| (entry.object.id.clone(), *at));
        self.places.extend(ids);
        self.entries.extend(changed);
        Ok(())
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let items = self.items.iter().map(|one| one.item.body.len());
        let chunks = self.chunks.all.iter();
        let chunks = chunks.map(|chunk| chunk.text.len() + size_of_val(&chunk.vector[..]));
        self.object.body.len() + items.sum::<usize>() + chunks.sum::<usize>()
    }

    fn side(&self, side: Side) -> impl Iterator<Item = &Item> {
        let items = self.items.iter().map(|one| &one.item);
        items.filter(move |item| item.side == side)
    }

    /// Returns the holder, if its hold has not run out.
    fn holder(&self) -> Option<&str> {
        let hold = self.hold.as_ref();
        hold.filter(|hold| hold.until > Instant::now())
            .map(|hold| hold.holder.as_str())
    }

    fn has(&self, needed: &NeededHold) -> bool {
        self.hold.as_ref().is_some_and(|hold| match needed {
            NeededHold::Of(holder) => hold.holder == *holder,
            NeededHold::Any => true,
            NeededHold::RunOut => hold.until <= Instant::now(),
        })
    }

    /// Returns the object with `is_held`.
    fn shown(&self) -> Object {
        Object {
            is_held: self.holder().is_some(),
            ..self.object.clone()
        }
    }

    /// Adds items with numbers from `next` on.
    fn add(&mut self, items: Vec<Item>, next: &mut u64) -> Result<(), StoreError> {
        let key = |item: &Item| (item.side, item.id.clone());
        let mut ids: HashSet<_> = self.items.iter().map(|one| key(&one.item)).collect();
        for item in items {
            if !ids.insert(key(&item)) {
                return Err(StoreError::Duplicate { id: item.id });
            }
            let number = *next;
            *next += 1;
            self.items.push(Numbered { number, item });
        }
        Ok(())
    }

    fn hold_for(&mut self, holder: String, time: Duration) -> Result<(), StoreError> {
        if self.holder().is_some_and(|other| other != holder) {
            return Err(StoreError::InUse);
        }
        // The end may be beyond what the clock can represent.
        let until = Instant::now().checked_add(time);
        let until = until.unwrap_or_else(|| Instant::now() + LONGEST_HOLD);
        self.hold = Some(Hold { holder, until });
        Ok(())
    }

    /// Prolongs the hold of this holder.
    fn renew_for(&mut self, holder: String, time: Duration) -> Result<(), StoreError> {
        if !self.has(&NeededHold::Of(holder.clone())) {
            return Err(StoreError::InUse);
        }
        self.hold_for(holder, time)
    }

    /// Ends the hold of this holder, or of any holder.
    fn release(&mut self, holder: Option<String>) {
        if holder.is_none_or(|holder| self.has(&NeededHold::Of(holder))) {
            self.hold = None;
        }
    }

    /// Adds the chunks of a file from number `first` on. The first ones replace all earlier ones.
    fn add_chunks(&mut self, store: String, first: u64, chunks: Vec<Chunk>, is_last: bool) {
        if first == 0 {
            self.chunks.all.clear();
        }
        self.chunks.all.extend(chunks);
        (self.chunks.store, self.chunks.is_complete) = (store, is_last);
    }
}

impl Draft<'_> {
    fn make(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Create { object, items } => self.create(object, items)?,
            Change::Append { kind, id, items } => self.add(kind, &id, items)?,
            Change::Replace {
                kind,
                id,
                body,
                items,
                needs,
            } => {
                self.replace_body(kind, &id, body, needs)?;
                self.add(kind, &id, items)?;
            }
            Change::Hold {
                kind,
                id,
                holder,
                time,
            } => self.entry(kind, &id)?.hold_for(holder, time)?,
            Change::Renew {
                kind,
                id,
                holder,
                time,
            } => self.entry(kind, &id)?.renew_for(holder, time)?,
            Change::Release { kind, id, holder } => self.entry(kind, &id)?.release(holder),
            Change::Clear { kind, id } => self.entry(kind, &id)?.items.clear(),
            Change::Label { kind, id, metadata } => {
                self.entry(kind, &id)?.object.metadata = metadata;
            }
            Change::Chunks {
                id,
                store,
                first,
                chunks,
                is_last,
            } => {
                self.entry(Kind::VectorStore, &store)?;
                let file = self.entry(Kind::VectorStoreFile, &id)?;
                file.add_chunks(store, first, chunks, is_last);
            }
            Change::Schedule {
                kind,
                id,
                due,
                content,
            } => {
                let entry = self.entry(kind, &id)?;
                (entry.due, entry.content) = (due, content);
            }
            Change::Limit { more, most } => self.check_room(more, most)?,
        }
        Ok(())
    }

    /// Checks that the owner may have more bytes of content.
    fn check_room(&self, more: u64, most: u64) -> Result<(), StoreError> {
        let content = self.kept.content(self.owner);
        if content.saturating_add(more) > most {
            return Err(StoreError::OverLimit);
        }
        Ok(())
    }

    fn replace_body(
        &mut self,
        kind: Kind,
        id: &str,
        body: String,
        needs: Option<NeededHold>,
    ) -> Result<(), StoreError> {
        let entry = self.entry(kind, id)?;
        if needs.is_some_and(|needed| !entry.has(&needed)) {
            return Err(StoreError::InUse);
        }
        entry.object.body = body;
        Ok(())
    }

    fn create(&mut self, object: Object, items: Vec<Item>) -> Result<(), StoreError> {
        let is_drafted = self.drafted(&object.id).is_some();
        if is_drafted || self.kept.places.contains_key(&object.id) {
            return Err(StoreError::Duplicate { id: object.id });
        }
        let mut entry = Entry {
            owner: self.owner.clone(),
            object,
            items: Vec::new(),
            hold: None,
            due: None,
            content: 0,
            chunks: Chunks::default(),
        };
        let place = self.next;
        self.next += 1;
        entry.add(items, &mut self.next)?;
        self.changed.insert(place, entry);
        Ok(())
    }

    fn add(&mut self, kind: Kind, id: &str, items: Vec<Item>) -> Result<(), StoreError> {
        let mut next = self.next;
        self.entry(kind, id)?.add(items, &mut next)?;
        self.next = next;
        Ok(())
    }

    /// Returns an entry that one of the changes has replaced.
    fn drafted(&self, id: &str) -> Option<(&u64, &Entry)> {
        let mut changed = self.changed.iter();
        changed.find(|(_, entry)| entry.object.id == id)
    }

    /// Returns the entry, including the changes so far, to be changed again.
    fn entry(&mut self, kind: Kind, id: &str) -> Result<&mut Entry, StoreError> {
        let at = ObjectRef {
            owner: self.owner,
            kind,
            id,
        };
        let drafted = self
            .drafted(id)
            .filter(|(_, entry)| entry.object.kind == kind);
        let place = match drafted {
            Some((place, _)) => *place,
            None => self.kept.place(at)?,
        };
        match self.changed.entry(place) {
            btree_map::Entry::Occupied(drafted) => Ok(drafted.into_mut()),
            btree_map::Entry::Vacant(vacant) => Ok(vacant.insert(self.kept.entry(at)?.clone())),
        }
    }
}

impl Store for MemoryStore {
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let mut draft = Draft {
                kept: &kept,
                owner,
                changed: BTreeMap::new(),
                next: kept.next,
            };
            for change in changes {
                draft.make(change)?;
            }
            let Draft { changed, next, .. } = draft;
            kept.put(changed, self.most_bytes)?;
            kept.next = next;
            Ok(())
        })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move { Ok(self.lock().entry(at)?.shown()) })
    }

    fn object_with_items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
    ) -> BoxFuture<'a, Result<(Object, Vec<Item>), StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let entry = kept.entry(at)?;
            Ok((entry.shown(), entry.side(side).cloned().collect()))
        })
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
            let all: Vec<Object> = entries
                .filter(|entry| entry.owner == *owner && entry.object.kind == kind)
                .map(Entry::shown)
                .collect();
            let all: Vec<&Object> = all.iter().collect();
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
            Ok(entry.shown())
        })
    }

    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut kept = self.lock();
            let place = kept.place(at)?;
            kept.remove(place);
            if at.kind == Kind::VectorStore {
                kept.forget_chunks(at.id);
            }
            Ok(())
        })
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let all: Vec<&Item> = kept.entry(at)?.side(side).collect();
            let of = |item: &Item| (item.id.clone(), item.body.len());
            part(&all, page, of, |_| true)
        })
    }

    fn chain<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let mut chain = vec![kept.entry(at)?];
            while let Some(id) = &chain[chain.len() - 1].object.previous {
                let before = kept.entry(ObjectRef { id, ..at });
                chain.push(before.map_err(|_| StoreError::BrokenChain { id: id.clone() })?);
                if chain.len() > MOST_OBJECTS_OF_A_CHAIN {
                    return Err(StoreError::TooLong);
                }
            }
            let entries = chain.into_iter().rev();
            let items = entries
                .flat_map(|entry| entry.side(Side::Input).chain(entry.side(Side::Output)))
                .cloned();
            short(items.collect())
        })
    }

    fn find_items<'a>(
        &'a self,
        owner: &'a Owner,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let entries = kept
                .entries
                .values()
                .filter(|entry| entry.owner == *owner && entry.object.kind.has_findable_items());
            let items = entries.flat_map(|entry| &entry.items);
            let mut items: Vec<&Numbered> =
                items.filter(|one| one.item.side != Side::Stream).collect();
            items.sort_by_key(|one| one.number);
            // If several items have the same id, the newest is returned.
            let mut found: HashMap<&str, &Item> = items
                .into_iter()
                .map(|one| (one.item.id.as_str(), &one.item))
                .collect();
            let asked = ids.iter().filter_map(|id| found.remove(id.as_str()));
            short(asked.cloned().collect())
        })
    }

    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let mut items = kept.entry(at)?.side(Side::Input);
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
            let is_it = |one: &Numbered| one.item.id == item && one.item.side == Side::Input;
            let place = entry.items.iter().position(is_it);
            let removed = entry.items.remove(place.ok_or(StoreError::ItemNotFound)?);
            let object = entry.shown();
            kept.bytes -= removed.item.body.len();
            Ok(object)
        })
    }

    fn claim<'a>(
        &'a self,
        kind: Kind,
        holder: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            let now = id::now();
            let mut kept = self.lock();
            let due = kept.entries.values_mut().filter(|entry| {
                let is_due = entry.due.is_some_and(|due| due <= now);
                is_due && entry.object.kind == kind && entry.holder().is_none()
            });
            let Some(entry) = due.min_by_key(|entry| entry.due) else {
                return Ok(None);
            };
            entry.hold_for(holder.to_owned(), time)?;
            Ok(Some(Claimed {
                owner: entry.owner.clone(),
                object: entry.shown(),
            }))
        })
    }

    fn content_bytes<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { Ok(self.lock().content(owner)) })
    }

    fn counts<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Count>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
            let own = kept.entries.values().filter(|entry| {
                let object = &entry.object;
                entry.owner == *owner && object.kind == kind && fits(object, filter)
            });
            for entry in own {
                if let Some(value) = entry.object.metadata.get(name) {
                    let (objects, content) = counts.entry(value).or_default();
                    *objects += 1;
                    *content += entry.content;
                }
            }
            let count = |(value, (objects, content)): (&str, (u64, u64))| Count {
                value: value.to_owned(),
                objects,
                content,
            };
            Ok(counts.into_iter().map(count).collect())
        })
    }

    fn search<'a>(
        &'a self,
        at: ObjectRef<'a>,
        search: &'a ChunkSearch,
    ) -> BoxFuture<'a, Result<Vec<FoundChunk>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            kept.entry(at)?;
            let entries = kept.entries.values().filter(|entry| {
                let files = search.files.as_ref();
                let is_wanted = files.is_none_or(|files| files.contains(&entry.object.id));
                entry.chunks.is_complete && entry.chunks.store == at.id && is_wanted
            });
            let mut found: Vec<FoundChunk> =
                entries.flat_map(|entry| found(entry, search)).collect();
            found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            for (rank, one) in found.iter_mut().take(search.limit).enumerate() {
                one.vector_rank = Some(rank);
            }
            // Until here, the rank is the number of words that the chunk has.
            let words = |one: &FoundChunk| one.word_rank.unwrap_or_default();
            found.sort_by_key(|one| std::cmp::Reverse(words(one)));
            for (rank, one) in found.iter_mut().enumerate() {
                let is_among = rank < search.limit && words(one) > 0;
                one.word_rank = is_among.then_some(rank);
            }
            found.retain(|one| one.vector_rank.is_some() || one.word_rank.is_some());
            Ok(found)
        })
    }

    fn existing<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let kept = self.lock();
            let known = ids.iter().filter(|id| kept.places.contains_key(*id));
            Ok(known.cloned().collect())
        })
    }
}

/// Returns the chunks of an entry as a search finds them, with the number of the words of the query
/// that each has instead of its rank.
fn found(entry: &Entry, search: &ChunkSearch) -> Vec<FoundChunk> {
    let chunks = (0..).zip(&entry.chunks.all);
    let comparable = chunks.filter(|(_, chunk)| chunk.vector.len() == search.vector.len());
    let found = comparable.map(|(number, chunk)| {
        let text = chunk.text.to_lowercase();
        let words: HashSet<&str> = text.split(|one: char| !one.is_alphanumeric()).collect();
        let has = |word: &&String| words.contains(word.as_str());
        FoundChunk {
            file: entry.object.id.clone(),
            number,
            text: chunk.text.clone(),
            similarity: similarity(&chunk.vector, &search.vector),
            vector_rank: None,
            word_rank: Some(search.words.iter().filter(has).count()),
        }
    });
    found.collect()
}

/// Checks that the items do not have more bytes than one call may return.
fn short(items: Vec<Item>) -> Result<Vec<Item>, StoreError> {
    let bytes: usize = items.iter().map(|item| item.body.len()).sum();
    if bytes > MOST_BYTES_OF_A_CHAIN {
        return Err(StoreError::TooLong);
    }
    Ok(items)
}

fn fits(object: &Object, filter: &Filter) -> bool {
    let mut labels = filter.metadata.iter();
    filter
        .model
        .as_ref()
        .is_none_or(|model| object.model.as_ref() == Some(model))
        && labels.all(|(name, value)| object.metadata.get(name) == Some(value))
}

/// Returns the part of a list that a page asks for. `of` returns the id of an entry and its length.
/// The filter does not apply to the entry that the part begins after.
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
