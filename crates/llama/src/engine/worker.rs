//! The engine's thread: admit, share, plan, compute, choose, and again.
//!
//! One step computes the next token of every answer and, in the room that is left, pieces of prompts. Nothing here waits for a
//! reader: one without room for another output sits the step out, one who has left loses his slot before the next.

use std::sync::mpsc::SyncSender;

use super::Sizes;
use super::answer::Output;
use super::cache::{Cache, Sequence};
use super::inbox::{Inbox, Job};
use super::plan::share;
use super::slots::{self, Slot};
use super::work::Work;
use crate::error::{EngineError, LoadError};
use crate::model::Model;
use crate::sample::Scratch;

/// Runs until the inbox says stop.
pub(super) fn run(model: &Model, sizes: Sizes, inbox: &Inbox, ready: &SyncSender<Result<(), LoadError>>) {
    let _closing = Closing(inbox);
    let no_memory = LoadError::Context { context: sizes.context, parallel: sizes.parallel };
    let Some(cache) = Cache::new(model, sizes) else {
        let _ = ready.send(Err(no_memory));
        return;
    };
    let mut worker = Worker::new(model, sizes, inbox, cache);
    let warmed = worker.warm_up().map_err(|what| LoadError::Setting(format!("the model cannot compute: {what}")));
    let go_on = warmed.is_ok();
    if ready.send(warmed).is_ok() && go_on {
        while worker.turn() {}
    }
}

/// Closes the inbox when the thread ends, also by a panic: whoever waits is told.
struct Closing<'a>(&'a Inbox);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Worker<'a> {
    model: &'a Model,
    sizes: Sizes,
    inbox: &'a Inbox,
    cache: Cache<'a>,
    slots: Vec<Slot>,
    scratch: Scratch,
    /// Counts requests as they come and go.
    clock: u64,
}

/// A token of the step whose logits are wanted: whose, and in which row they will be.
struct Wanted {
    sequence: Sequence,
    row: i32,
}

impl<'a> Worker<'a> {
    fn new(model: &'a Model, sizes: Sizes, inbox: &'a Inbox, cache: Cache<'a>) -> Self {
        let slots = (0..sizes.parallel).map(|_| Slot::new()).collect();
        Self { model, sizes, inbox, cache, slots, scratch: Scratch::default(), clock: 0 }
    }

    /// Computes one token for nobody: brings the weights into memory, and shows that the model works at all.
    fn warm_up(&mut self) -> Result<(), String> {
        self.cache.begin();
        self.cache.add(0, 0, 0, true)?;
        self.cache.compute()?;
        self.cache.clear();
        Ok(())
    }

    /// One round. Says whether there is to be another.
    fn turn(&mut self) -> bool {
        self.release_the_abandoned();
        let idle = self.slots.iter().filter(|slot| slot.work.is_none()).count();
        let Some(jobs) = self.inbox.take(idle) else { return false };
        self.admit(jobs);
        self.share_beginnings();
        match self.prepare() {
            Ok(wanted) if wanted.is_empty() && self.cache.is_empty_step() => self.inbox.wait(),
            Ok(wanted) => match self.cache.compute() {
                Ok(()) => self.choose(&wanted),
                Err(what) => self.fail_all(&what),
            },
            Err(what) => self.fail_all(&what),
        }
        true
    }

    /// Frees the slots whose readers have left. What the cache holds of them stays for whoever asks something similar.
    fn release_the_abandoned(&mut self) {
        for sequence in 0..self.slots.len() {
            if self.slots[sequence].work.as_ref().is_some_and(|work| work.outlet.is_closed()) {
                self.release(sequence);
            }
        }
    }

    fn release(&mut self, sequence: Sequence) {
        self.clock += 1;
        let slot = &mut self.slots[sequence];
        slot.last_used = self.clock;
        if let Some(work) = slot.work.take() {
            self.inbox.answered_in(work.began.elapsed());
        }
    }

    fn admit(&mut self, jobs: Vec<Job>) {
        let alone = self.slots.iter().all(|slot| slot.work.is_none());
        if alone && jobs.iter().any(|job| job.generation.is_to_be_reproducible()) {
            // From an empty cache the same arithmetic follows, bit by bit. From a full one it is only nearly the same, and
            // that is enough for another token to be drawn.
            self.cache.clear();
            self.slots.iter_mut().for_each(|slot| slot.held.clear());
        }
        for job in jobs {
            // There is a free slot for each of them: the inbox was asked for no more.
            let Some(sequence) = slots::choose(&self.slots, &job.generation.prompt) else { continue };
            self.clock += 1;
            let mut work = Work::new(job, self.clock, self.sizes.context as usize);
            work.cached = self.keep_beginning(sequence, &work);
            work.outlet.send(Ok(Output::Reading));
            self.slots[sequence].work = Some(work);
        }
    }

    /// Cuts what a slot holds down to what the prompt begins with; its last token is always computed, for its logits.
    fn keep_beginning(&mut self, sequence: Sequence, work: &Work) -> usize {
        let held = &mut self.slots[sequence].held;
        let common = slots::common(held, &work.prompt).min(work.prompt.len() - 1);
        if common < held.len() {
            let kept = if self.model.facts.can_roll_back && self.cache.cut(sequence, common) { common } else { 0 };
            if kept == 0 {
                self.cache.cut(sequence, 0);
            }
            held.truncate(kept);
        }
        held.len()
    }

    /// Gives those who read what others have read already: the same cells belong to both from then on.
    fn share_beginnings(&mut self) {
        if !self.model.facts.can_roll_back {
            return;
        }
        for reader in 0..self.slots.len() {
            let Some((from, end)) = slots::source(&self.slots, reader) else { continue };
            let start = self.slots[reader].held.len();
            if !self.cache.share(from, reader, start..end) {
                continue;
            }
            let tokens = self.slots[from].held[start..end].to_vec();
            let slot = &mut self.slots[reader];
            slot.held.extend(tokens);
            if let Some(work) = &mut slot.work {
                work.cached += end - start;
            }
        }
    }

    /// Puts the step together: a token of every answer whose reader has room, and pieces of prompts.
    fn prepare(&mut self) -> Result<Vec<Wanted>, String> {
        self.cache.begin();
        let mut wanted = Vec::new();
        for (sequence, slot) in self.slots.iter_mut().enumerate() {
            let Some(work) = slot.work.as_ref().filter(|work| work.outlet.has_room()) else { continue };
            let Some(token) = work.next else { continue };
            let row = self.cache.add(sequence, slot.held.len(), token, true)?;
            slot.held.push(token);
            wanted.push(Wanted { sequence, row });
        }
        let room = if wanted.is_empty() { self.sizes.alone } else { self.sizes.piece };
        self.prepare_prompts(room as usize, &mut wanted)?;
        Ok(wanted)
    }

    fn prepare_prompts(&mut self, room: usize, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let mut readers: Vec<(u64, Sequence, usize)> = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            if let Some(work) = slot.work.as_ref().filter(|work| work.next.is_none())
                && !(self.model.facts.can_roll_back && slots::had_better_wait(&self.slots, sequence))
            {
                readers.push((work.number, sequence, work.prompt.len() - slot.held.len()));
            }
        }
        readers.sort_unstable();
        let wants: Vec<usize> = readers.iter().map(|reader| reader.2).collect();
        for (&(_, sequence, left), part) in readers.iter().zip(share(room, &wants)) {
            let slot = &mut self.slots[sequence];
            let Some(work) = &slot.work else { continue };
            let start = slot.held.len();
            for (offset, &token) in work.prompt[start..start + part].iter().enumerate() {
                let is_last = part == left && offset + 1 == part;
                let row = self.cache.add(sequence, start + offset, token, is_last)?;
                if is_last {
                    wanted.push(Wanted { sequence, row });
                }
            }
            slot.held.extend_from_slice(&work.prompt[start..start + part]);
        }
        Ok(())
    }

    fn choose(&mut self, wanted: &[Wanted]) {
        for &Wanted { sequence, row } in wanted {
            let logits = self.cache.logits(row);
            let work = self.slots[sequence].work.as_mut();
            if work.is_some_and(|work| work.step(logits, self.model, &mut self.scratch)) {
                self.release(sequence);
            }
        }
    }

    /// After a failed step nothing is known of the cache: everybody is told, and the engine begins anew.
    fn fail_all(&mut self, what: &str) {
        tracing::error!(what, "a step failed; every request of it is answered with an error");
        self.cache.clear();
        for slot in &mut self.slots {
            slot.held.clear();
            if let Some(work) = slot.work.take() {
                work.fail(EngineError::Compute(what.to_owned()));
            }
        }
    }
}
