//! The engine's thread: admit, share, plan, compute, choose, in a loop.
//!
//! One step computes the next token of every answer and, in the remaining room, pieces of prompts.
//! The thread never waits for a reader: a reader without room for another output skips the step,
//! and one that has left loses its slot before the next step.

mod choose;
mod score;

use std::sync::mpsc::SyncSender;

use super::cache::{Cache, Sequence};
use super::draft::Drafts;
use super::inbox::{Inbox, Job};
use super::output::Output;
use super::plan::share;
use super::sizes::Sizes;
use super::slots::{self, Slot};
use super::task::Task;
use crate::error::{EngineError, LoadError};
use crate::model::Model;
use crate::sample::Scratch;
use score::ScoredRow;

/// Runs until the inbox is stopped.
pub(super) fn run(
    model: &Model,
    sizes: Sizes,
    inbox: &Inbox,
    ready: &SyncSender<Result<(), LoadError>>,
) {
    let _closing = Closing(inbox);
    let no_memory = LoadError::Context {
        context: sizes.context,
        parallel: sizes.parallel,
    };
    let Some(cache) = Cache::new(model, sizes) else {
        let _ = ready.send(Err(no_memory));
        return;
    };
    let drafts = match Drafts::new(model, sizes) {
        Ok(drafts) => drafts,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let mut worker = Worker::new(model, sizes, inbox, cache, drafts);
    let warmed = worker
        .warm_up()
        .map_err(|what| LoadError::Setting(format!("the model cannot compute: {what}")));
    let go_on = warmed.is_ok();
    if ready.send(warmed).is_ok() && go_on {
        while worker.turn() {}
    }
}

/// Closes the inbox when the thread ends, even by a panic, so that waiting callers get an error.
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
    /// Speculative decoding, if the model has a draft model.
    drafts: Option<Drafts<'a>>,
    slots: Vec<Slot>,
    scratch: Scratch,
    /// Counts arriving and ending requests, and steps.
    clock: u64,
    /// The minimum number of tokens for a copy from another slot.
    worth: usize,
    /// Whether rows of images or sounds were computed in this step, beside its tokens.
    has_read_rows: bool,
}

/// A token of the step whose logits are needed: its sequence, and the row of its logits. The rows
/// after it belong to the draft tokens that follow it.
struct SampledRow {
    sequence: Sequence,
    row: i32,
    drafted: usize,
}

/// What a step computes, apart from filling the cache.
#[derive(Default)]
struct Step {
    sampled: Vec<SampledRow>,
    scored: Vec<ScoredRow>,
}

/// A prompt that is being read: the number of its tokens before the next rows, its end, or the
/// index where it has to stop.
struct PendingPrompt {
    sequence: Sequence,
    left: usize,
    is_at_rows: bool,
}

impl<'a> Worker<'a> {
    fn new(
        model: &'a Model,
        sizes: Sizes,
        inbox: &'a Inbox,
        cache: Cache<'a>,
        drafts: Option<Drafts<'a>>,
    ) -> Self {
        let slots = (0..sizes.parallel).map(|_| Slot::new()).collect();
        let worth = slots::worth(sizes.context as usize);
        let scratch = Scratch::default();
        Self {
            model,
            sizes,
            inbox,
            cache,
            drafts,
            slots,
            scratch,
            clock: 0,
            worth,
            has_read_rows: false,
        }
    }

    /// Computes one token and discards it. This brings the weights into memory, and proves that the
    /// model and its draft model work.
    fn warm_up(&mut self) -> Result<(), String> {
        self.cache.begin();
        self.cache.add(0, 0, 0, true)?;
        self.cache.compute()?;
        self.cache.clear();
        self.drafts.as_mut().map_or(Ok(()), Drafts::warm_up)
    }

    /// One iteration of the loop. Returns whether to continue.
    fn turn(&mut self) -> bool {
        self.release_the_abandoned();
        let idle = self.slots.iter().filter(|slot| slot.task.is_none()).count();
        let Some(jobs) = self.inbox.take(idle) else {
            return false;
        };
        self.admit(jobs);
        self.share_beginnings();
        match self.prepare() {
            Ok(step) if step.sampled.is_empty() && self.cache.is_empty_step() => {
                if !self.has_read_rows {
                    self.inbox.wait();
                }
            }
            Ok(step) => match self.cache.compute() {
                Ok(()) => {
                    self.score(&step.scored);
                    self.choose(&step.sampled);
                }
                Err(what) => self.fail_all(&what),
            },
            Err(what) => self.fail_all(&what),
        }
        true
    }

    /// Frees the slots whose readers have left. Their cached tokens stay, for similar requests.
    fn release_the_abandoned(&mut self) {
        for sequence in 0..self.slots.len() {
            if self.slots[sequence]
                .task
                .as_ref()
                .is_some_and(|task| task.sender.is_closed())
            {
                self.release(sequence);
            }
        }
    }

    fn release(&mut self, sequence: Sequence) {
        self.clock += 1;
        let slot = &mut self.slots[sequence];
        slot.last_used = self.clock;
        if let Some(task) = slot.task.take() {
            self.inbox.record_time(task.began.elapsed());
        }
    }

    fn admit(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            let alone = self.slots.iter().all(|slot| slot.task.is_none());
            let prompt = &job.generation.prompt;
            // There is a free slot for each of them, because the inbox returns no more.
            let Some(place) = slots::assign(&self.slots, prompt, self.worth, self.can_roll_back())
            else {
                continue;
            };
            if let Some(elsewhere) = place.moved_to {
                let all = self.slots[place.slot].tokens.len();
                self.copy(place.slot, elsewhere, all, all);
                self.slots[elsewhere].last_used = self.slots[place.slot].last_used;
            }
            if alone && job.generation.is_to_be_reproducible() {
                // An empty stream gives the same arithmetic, bit by bit. A beginning that steps of
                // other requests computed is only nearly the same, which is enough for another
                // token to be sampled.
                self.truncate(place.slot, 0, 0);
                if let Some(drafts) = &mut self.drafts {
                    drafts.forget(place.slot);
                }
            }
            self.clock += 1;
            let mut task = Task::new(job, self.clock, self.sizes.context as usize);
            task.cached = self.keep_beginning(place.slot, &task);
            task.sender.send(Ok(Output::Reading));
            self.slots[place.slot].task = Some(task);
        }
    }

    fn can_roll_back(&self) -> bool {
        self.model.facts.can_roll_back
    }

    /// Truncates a slot's cache to the beginning of the prompt that need not be computed. Returns
    /// its length.
    fn keep_beginning(&mut self, sequence: Sequence, task: &Task) -> usize {
        let tokens = &self.slots[sequence].tokens;
        let common = slots::shared_prefix(tokens, task);
        if common < tokens.len() {
            self.truncate(sequence, common, task.prompt.position(common));
        }
        self.slots[sequence].tokens.len()
    }

    /// Truncates a slot's cache to `kept` tokens, which end at this position, or clears it if the
    /// model cannot truncate.
    fn truncate(&mut self, sequence: Sequence, kept: usize, position: usize) {
        let kept = if self.can_roll_back() && self.cache.truncate(sequence, position) {
            kept
        } else {
            0
        };
        if kept == 0 {
            self.cache.truncate(sequence, 0);
        }
        self.slots[sequence].tokens.truncate(kept);
    }

    /// Copies another slot's cache up to `end`, which is at this position. Returns whether that
    /// worked.
    fn copy(&mut self, from: Sequence, to: Sequence, end: usize, position: usize) -> bool {
        let copied = self.cache.copy(from, to, position);
        let tokens = if copied {
            self.slots[from].tokens[..end].to_vec()
        } else {
            Vec::new()
        };
        if !copied {
            self.cache.truncate(to, 0);
        }
        self.slots[to].tokens = tokens;
        copied
    }

    /// Copies beginnings that another slot has already read to the requests that need them.
    fn share_beginnings(&mut self) {
        for reader in 0..self.slots.len() {
            let Some((from, end)) =
                slots::copy_source(&self.slots, reader, self.worth, self.can_roll_back())
            else {
                continue;
            };
            let had = self.slots[reader].tokens.len();
            let position = self.slots[reader]
                .task
                .as_ref()
                .map_or(end, |task| task.prompt.position(end));
            let gained = if self.copy(from, reader, end, position) {
                end - had
            } else {
                0
            };
            if let Some(task) = &mut self.slots[reader].task {
                task.cached += gained;
            }
            let source = &mut self.slots[from];
            if source.task.is_none() && source.tokens.len() == end {
                // The other slot has all of it now, so this one is reused first.
                source.last_used = 0;
            }
        }
    }

    /// Builds the step: a token of every answer whose reader has room, and pieces of prompts.
    fn prepare(&mut self) -> Result<Step, String> {
        self.cache.begin();
        self.has_read_rows = false;
        let mut all_drafts = self.draft().into_iter().peekable();
        let mut step = Step::default();
        for (sequence, slot) in self.slots.iter_mut().enumerate() {
            let Some(task) = slot.task.as_ref().filter(|task| task.sender.has_room()) else {
                continue;
            };
            let Some(token) = task.next else { continue };
            // Both lists are in the order of the slots.
            let own = all_drafts.next_if(|draft| draft.sequence == sequence);
            let own = own.map_or_else(Vec::new, |draft| draft.tokens);
            let row = self.cache.add(
                sequence,
                task.prompt.position(slot.tokens.len()),
                token,
                true,
            )?;
            slot.tokens.push(token);
            for &token in &own {
                self.cache.add(
                    sequence,
                    task.prompt.position(slot.tokens.len()),
                    token,
                    true,
                )?;
                slot.tokens.push(token);
            }
            step.sampled.push(SampledRow {
                sequence,
                row,
                drafted: own.len(),
            });
        }
        let alone = self.sizes.alone as usize;
        let each = if step.sampled.is_empty() {
            alone
        } else {
            self.sizes.piece as usize
        };
        let most = alone.min(self.sizes.batch as usize - step.sampled.len());
        self.prepare_prompts(each, most, &mut step)?;
        Ok(step)
    }

    /// Adds up to `each` tokens of each prompt that is being read, and at most `most` in total.
    fn prepare_prompts(&mut self, each: usize, most: usize, step: &mut Step) -> Result<(), String> {
        self.clock += 1;
        let mut prompts = self.pending_prompts();
        // At most one prompt's image in a step, because each is a separate computation.
        let with_rows = prompts
            .iter()
            .position(|prompt| prompt.is_at_rows)
            .map(|at| prompts[at].sequence);
        prompts.retain(|prompt| !prompt.is_at_rows);
        self.bound_scored(&mut prompts);
        // Half of the room is for prompts that read tokens.
        let room = if prompts.is_empty() {
            each.min(most)
        } else {
            each.min(most) / 2
        };
        let taken = match with_rows {
            Some(sequence) => self.read_rows(sequence, room)?,
            None => 0,
        };
        let wants: Vec<usize> = prompts.iter().map(|prompt| prompt.left).collect();
        let parts = share(
            each.saturating_mul(prompts.len())
                .min(most.saturating_sub(taken)),
            &wants,
        );
        for (prompt, part) in prompts.iter().zip(parts).filter(|&(_, part)| part > 0) {
            self.read_tokens(prompt.sequence, part, step)?;
        }
        Ok(())
    }

    /// Adds tokens of a prompt to the step.
    fn read_tokens(
        &mut self,
        sequence: Sequence,
        part: usize,
        step: &mut Step,
    ) -> Result<(), String> {
        let slot = &mut self.slots[sequence];
        let Some(task) = &mut slot.task else {
            return Ok(());
        };
        task.served = self.clock;
        let start = slot.tokens.len();
        for (at, &token) in task.prompt.iter().enumerate().skip(start).take(part) {
            let is_last = at + 1 == task.prompt.len();
            let row = self.cache.add(
                sequence,
                task.prompt.position(at),
                token,
                is_last || task.scores_need(at),
            )?;
            if task.scores_continue_at(at) {
                step.scored.push(ScoredRow {
                    sequence,
                    place: at,
                    row,
                });
            }
            if is_last {
                step.sampled.push(SampledRow {
                    sequence,
                    row,
                    drafted: 0,
                });
            }
        }
        slot.tokens
            .extend_from_slice(&task.prompt[start..start + part]);
        Ok(())
    }

    /// Computes the next rows of the image or sound in a prompt: at most `room`, unless more have
    /// to be computed together. Returns how much of the room they used.
    fn read_rows(&mut self, sequence: Sequence, room: usize) -> Result<usize, String> {
        let slot = &mut self.slots[sequence];
        let start = slot.tokens.len();
        let Some(task) = &mut slot.task else {
            return Ok(0);
        };
        task.served = self.clock;
        let Some((span, first)) = task.prompt.rows_at(start) else {
            return Ok(0);
        };
        let left = span.rows.places.len() - first;
        let count = if span.rows.causal {
            left.min(room.max(1))
        } else {
            left
        };
        self.cache.read_rows(
            sequence,
            task.prompt.position(span.start),
            &span.rows,
            first..first + count,
        )?;
        slot.tokens
            .extend_from_slice(&task.prompt[start..start + count]);
        self.has_read_rows = true;
        Ok(count.min(room))
    }

    /// The prompts that read in this step, the longest unserved first. A prompt that waits for
    /// tokens that another one is reading does not read. That other one stops where the shared part
    /// ends, so that the first does not wait longer than necessary.
    fn pending_prompts(&self) -> Vec<PendingPrompt> {
        let mut until = vec![usize::MAX; self.slots.len()];
        let mut order: Vec<(u64, u64, Sequence)> = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            let reading = slot.task.as_ref().filter(|task| task.next.is_none());
            let Some(task) = reading.filter(|task| !task.is_paused()) else {
                continue;
            };
            match slots::waits_for(&self.slots, sequence, self.worth) {
                Some((other, end)) => until[other] = until[other].min(end),
                None => order.push((task.served, task.number, sequence)),
            }
        }
        order.sort_unstable();
        let pending = |(.., sequence): (u64, u64, Sequence)| {
            let slot = &self.slots[sequence];
            let start = slot.tokens.len();
            let prompt = &slot.task.as_ref()?.prompt;
            let left = prompt.tokens_from(start).min(until[sequence] - start);
            Some(PendingPrompt {
                sequence,
                left,
                is_at_rows: prompt.rows_at(start).is_some(),
            })
        };
        order.into_iter().filter_map(pending).collect()
    }

    /// After a failed step the state of the cache is unknown: all requests get an error, and the
    /// cache is cleared.
    fn fail_all(&mut self, what: &str) {
        tracing::error!(
            what,
            "a step failed; every request of it is answered with an error"
        );
        self.cache.clear();
        if let Some(drafts) = &mut self.drafts {
            drafts.clear();
        }
        for slot in &mut self.slots {
            slot.tokens.clear();
            if let Some(task) = slot.task.take() {
                task.fail(EngineError::Compute(what.to_owned()));
            }
        }
    }
}
