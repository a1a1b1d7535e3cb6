//! Keeps the conversation of a slot that is taken for another one, and restores it when it goes on:
//! from memory at once, from disk when another thread has read the file.

use std::sync::{Arc, PoisonError};

use super::Worker;
use crate::Token;
use crate::engine::cache::Sequence;
use crate::engine::prompt_cache::{Disk, Found, FoundFile, Importance, Snapshot};
use crate::engine::slots::{Slot, shared_prefix};
use crate::engine::task::Task;

/// The minimum gain from a file, in multiples of the minimum gain from a copy in memory. Fewer
/// tokens are not written and not loaded.
const MIN_FROM_DISK: usize = 4;

/// A state that was read for a request: its slot and number, and the snapshot, if the file could be
/// used.
pub(super) struct Loaded {
    sequence: Sequence,
    number: u64,
    snapshot: Option<Snapshot>,
}

impl Worker<'_> {
    /// Reduces a slot to the beginning of a request's prompt. Keeps its other content, and restores
    /// the beginning of the prompt if the prompt cache has more of it than any slot. Returns the
    /// number of tokens that the slot then has.
    pub(super) fn begin_with_cached(&mut self, sequence: Sequence, task: &Task) -> usize {
        let own = self.usable(sequence, task);
        let found = self.find_more(task, own);
        if found.is_none() && own * 2 < task.prompt.len() {
            let shared = |tokens: &[Token]| shared_prefix(tokens, task);
            self.pool.missed(&task.scope, self.min_copy, shared);
        }
        let goes_on = found.is_none() && own * 2 >= self.slots[sequence].tokens.len();
        let importance = if goes_on {
            Importance::Branch
        } else {
            Importance::Conversation
        };
        if let Some(found) = &found {
            // Before the slot's content is kept, which may need the room.
            self.pool.restored(found, self.min_copy);
        }
        self.keep(sequence, own, importance);
        if let Some(found) = found {
            self.restore(sequence, &found);
        }
        self.reduce(sequence, task);
        self.slots[sequence].tokens.len()
    }

    /// Reduces a slot to the beginning of a request's prompt.
    fn reduce(&mut self, sequence: Sequence, task: &Task) {
        let kept = self.usable(sequence, task);
        if kept < self.slots[sequence].tokens.len() {
            self.truncate(sequence, kept, task.prompt.position(kept));
        }
        self.slots[sequence].scope.clone_from(&task.scope);
    }

    /// Empties a slot for a request, after its content was kept.
    pub(super) fn begin_empty(&mut self, sequence: Sequence, task: &Task) {
        self.keep(sequence, 0, Importance::Conversation);
        self.truncate(sequence, 0, 0);
        self.slots[sequence].scope.clone_from(&task.scope);
    }

    /// Keeps the content of a slot that is about to lose all but `kept` tokens, unless the rest is
    /// too short to be worth it. Returns whether the prompt cache has the content.
    pub(super) fn keep(&mut self, sequence: Sequence, kept: usize, importance: Importance) -> bool {
        let slot = &self.slots[sequence];
        let length = slot.tokens.len();
        let is_short = length < kept + self.min_copy;
        if is_short || self.is_in_another_slot(sequence) {
            return false;
        }
        if self.pool.holds(&slot.tokens, &slot.scope) {
            return true;
        }
        let Some(snapshot) = self.snapshot(sequence) else {
            return false;
        };
        if let Some(disk) = &self.disk
            && importance == Importance::Conversation
        {
            disk.write(Arc::clone(&snapshot));
        }
        self.pool.insert(snapshot, importance)
    }

    /// Takes a snapshot of a slot, if there is a place for it.
    fn snapshot(&self, sequence: Sequence) -> Option<Arc<Snapshot>> {
        let on_disk = self.disk.as_ref().filter(|disk| disk.is_on());
        let most = self.pool.most().max(on_disk.map_or(0, Disk::most));
        if most == 0 {
            return None;
        }
        let slot = &self.slots[sequence];
        Some(Arc::new(Snapshot {
            state: self.cache.save(sequence, most)?,
            tokens: slot.tokens.clone(),
            scope: slot.scope.clone(),
            cut_from: self.cut_from(slot.tokens.len()),
        }))
    }

    /// The first free slot whose content the prompt cache on disk should get.
    pub(super) fn unwritten_slot(&self) -> Option<Sequence> {
        let disk = self.disk.as_ref().filter(|disk| disk.is_on())?;
        let should_write = |slot: &Slot| {
            let is_due = slot.task.is_none() && !slot.is_written;
            is_due
                && slot.tokens.len() >= MIN_FROM_DISK * self.min_copy
                && !disk.holds(&slot.tokens, &slot.scope)
        };
        self.slots.iter().position(should_write)
    }

    /// Writes the content of a slot to disk, in the background.
    pub(super) fn write_slot(&mut self, sequence: Sequence) {
        self.slots[sequence].is_written = true;
        if let Some(snapshot) = self.snapshot(sequence)
            && let Some(disk) = &self.disk
        {
            disk.write(snapshot);
        }
    }

    /// Writes the content of all slots to disk, before the engine ends.
    pub(super) fn write_all_slots(&mut self) {
        for slot in &mut self.slots {
            slot.task = None;
        }
        while let Some(sequence) = self.unwritten_slot() {
            self.slots[sequence].is_written = true;
            if let Some(snapshot) = self.snapshot(sequence)
                && let Some(disk) = &self.disk
            {
                disk.write_in_turn(snapshot);
            }
        }
    }

    /// If the prompt cache on disk has more of a request's prompt than the slots, begins to read
    /// it. Returns whether the request has to wait for that.
    pub(super) fn load_more(&self, sequence: Sequence, task: &Task) -> bool {
        let Some(disk) = &self.disk else {
            return false;
        };
        let found = disk.find(&task.scope, |tokens| shared_prefix(tokens, task));
        let Some(found) = found else {
            return false;
        };
        let in_slots = (0..self.slots.len()).map(|other| self.usable(other, task));
        let most = in_slots.max().unwrap_or(0);
        if found.usable < most + MIN_FROM_DISK * self.min_copy
            || self.is_loaded_for_another(task, &found)
        {
            return false;
        }
        let (number, loaded) = (task.number, Arc::clone(&self.loaded));
        let inbox = Arc::clone(self.inbox);
        disk.load(&found, task.scope.clone(), move |snapshot| {
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.push(Loaded {
                sequence,
                number,
                snapshot,
            });
            drop(loaded);
            inbox.ring();
        })
    }

    /// Whether another request waits for a file with the same beginning. This request then copies
    /// the result.
    fn is_loaded_for_another(&self, task: &Task, found: &FoundFile) -> bool {
        let others = self.slots.iter().filter_map(|slot| slot.task.as_ref());
        let mut loading = others.filter(|other| other.is_loading && other.scope == task.scope);
        loading.any(|other| shared_prefix(&other.prompt, task) >= found.usable)
    }

    /// Restores conversations that were read from disk, and continues the requests that have waited
    /// for them.
    pub(super) fn take_loaded(&mut self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *loaded);
        drop(loaded);
        for Loaded {
            sequence,
            number,
            snapshot,
        } in all
        {
            let slot = &mut self.slots[sequence];
            let Some(mut task) = slot.task.take_if(|task| task.number == number) else {
                continue;
            };
            task.is_loading = false;
            if let Some(snapshot) = snapshot {
                task.cached = self.begin_with_loaded(sequence, &task, Arc::new(snapshot));
            }
            self.slots[sequence].task = Some(task);
        }
    }

    /// Restores a snapshot from disk for a request, if it has more of the prompt than the slot.
    /// Returns the number of tokens that the slot then has.
    fn begin_with_loaded(
        &mut self,
        sequence: Sequence,
        task: &Task,
        snapshot: Arc<Snapshot>,
    ) -> usize {
        let usable = shared_prefix(&snapshot.tokens, task);
        let have = self.slots[sequence].tokens.len();
        let found = Found { snapshot, usable };
        let is_more = usable >= have + self.min_copy && usable >= found.snapshot.cut_from;
        if is_more && self.cache.is_settled() {
            self.restore(sequence, &found);
            self.reduce(sequence, task);
            self.slots[sequence].is_written = false;
        }
        // Other requests may need the snapshot too, unless all of it is in the slot.
        if usable + self.min_copy < found.snapshot.tokens.len() {
            self.pool.insert(found.snapshot, Importance::Conversation);
        }
        self.slots[sequence].tokens.len()
    }

    /// The number of a prompt's tokens that a slot has, and can be reduced to.
    fn usable(&self, sequence: Sequence, task: &Task) -> usize {
        let slot = &self.slots[sequence];
        if slot.scope != task.scope {
            return 0;
        }
        let shared = shared_prefix(&slot.tokens, task);
        if slot.can_keep(shared, self.can_roll_back()) {
            shared
        } else {
            0
        }
    }

    /// The snapshot with the longest beginning of a prompt, if restoring it is worth the time: it
    /// must have more of the prompt than the request's own slot, which has `own` tokens, and than
    /// all other slots.
    fn find_more(&self, task: &Task, own: usize) -> Option<Found> {
        if !self.cache.is_settled() {
            return None;
        }
        let found = self
            .pool
            .find(&task.scope, |tokens| shared_prefix(tokens, task))?;
        let in_slots = (0..self.slots.len()).map(|other| self.usable(other, task));
        let most = in_slots.fold(own, usize::max);
        (found.usable >= most + self.min_copy).then_some(found)
    }

    fn restore(&mut self, sequence: Sequence, found: &Found) {
        let snapshot = &found.snapshot;
        let is_restored = self.cache.restore(sequence, &snapshot.state);
        let slot = &mut self.slots[sequence];
        if is_restored {
            slot.tokens.clone_from(&snapshot.tokens);
            slot.scope.clone_from(&snapshot.scope);
            slot.cut_from = snapshot.cut_from;
        } else {
            tracing::warn!(
                tokens = snapshot.tokens.len(),
                "llama.cpp cannot restore a cached prompt; it is read again"
            );
            slot.tokens.clear();
            slot.cut_from = 0;
            self.pool.forget(snapshot);
        }
    }

    /// Whether another slot has all of this slot's content.
    fn is_in_another_slot(&self, sequence: Sequence) -> bool {
        let own = &self.slots[sequence];
        self.slots.iter().enumerate().any(|(other, slot)| {
            other != sequence
                && slot.scope == own.scope
                && slot.tokens.starts_with(&own.tokens)
                && slot.can_keep(own.tokens.len(), self.can_roll_back())
        })
    }

    /// The minimum number of tokens to which a snapshot of `length` tokens can be truncated.
    fn cut_from(&self, length: usize) -> usize {
        let window = self.model.facts.window;
        // llama.cpp omits the tokens that no later token can see through a sliding window.
        let has_last_window_only = window > 0 && length > window;
        if has_last_window_only || !self.can_roll_back() {
            length
        } else {
            0
        }
    }
}
