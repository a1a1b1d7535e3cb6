//! The engine's thread. Its loop admits requests, shares cached beginnings, plans a step, computes
//! it, and chooses tokens.
//!
//! One step computes the next token of every answer and, in the remaining room, tokens of prompts.
//! The thread never waits for a reader: a reader without room for another output skips the step,
//! and one that has left loses its slot before the next step.

mod ahead;
mod choose;
mod conversations;
mod score;

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::cache::{Cache, Sequence};
use super::compute_threads::ComputeThreads;
use super::draft::Drafts;
use super::inbox::{Inbox, Job};
use super::lookup::Lookup;
use super::output::Output;
use super::plan::share;
use super::prompt_cache::{Disk, Importance, Pool};
use super::read_ahead::ReadAhead;
use super::sizes::Sizes;
use super::slots::{self, Slot};
use super::task::Task;
use crate::error::{EngineError, LoadError};
use crate::model::Model;
use crate::sample::Scratch;
use ahead::Ahead;
use conversations::Loaded;
use score::ScoredRow;

/// How long the start waits for the folder of the prompt cache to be read.
const LONGEST_READ: Duration = Duration::from_secs(2);

/// How long the engine must be idle before it writes the content of a slot to disk.
const QUIET: Duration = Duration::from_millis(250);

/// Runs until the inbox is stopped.
pub(super) fn run(
    model: &Model,
    sizes: Sizes,
    ahead: ReadAhead,
    inbox: &Arc<Inbox>,
    disk: Option<Disk>,
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
    let mut worker = Worker::new(model, sizes, ahead, inbox, cache, drafts, disk);
    let warmed = worker.warm_up().map_err(|what| {
        LoadError::Setting(format!(
            "the first computation with the model failed: {what}"
        ))
    });
    let go_on = warmed.is_ok();
    if let Some(disk) = &worker.disk {
        disk.wait_until_read(LONGEST_READ);
    }
    if ready.send(warmed).is_ok() && go_on {
        while worker.turn() {}
        worker.write_all_slots();
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
    inbox: &'a Arc<Inbox>,
    cache: Cache<'a>,
    /// Speculative decoding, if the model has a draft model.
    drafts: Option<Drafts<'a>>,
    /// Lookup drafting, if it is on and the model has no draft model.
    lookup: Option<Lookup>,
    /// Whether forced tokens are read together.
    fast_forward: bool,
    slots: Vec<Slot>,
    /// The conversations that no slot holds.
    pool: Pool,
    /// The prompt cache on disk, if it is turned on.
    disk: Option<Disk>,
    /// The snapshots that were read from disk since the last step.
    loaded: Arc<Mutex<Vec<Loaded>>>,
    scratch: Scratch,
    threads: ComputeThreads,
    /// Counts arriving requests, ending requests and steps, so that events can be ordered in time.
    clock: u64,
    /// The minimum number of tokens for a copy from another slot.
    min_copy: usize,
    /// Whether this step computed rows of images or sounds, separately from its tokens.
    has_read_rows: bool,
}

/// A token of the step from whose logits the next token of an answer is chosen: its sequence, and
/// the row of its logits. The rows after it belong to the tokens that were read ahead: those that
/// the answer's grammar forces, and draft tokens after them.
struct SampledRow {
    sequence: Sequence,
    row: i32,
    forced: usize,
    drafted: usize,
}

impl SampledRow {
    /// The number of tokens that were read ahead.
    fn ahead(&self) -> usize {
        self.forced + self.drafted
    }
}

/// The rows of a step whose logits are needed.
#[derive(Default)]
struct Step {
    sampled: Vec<SampledRow>,
    scored: Vec<ScoredRow>,
}

/// A prompt that can be read in this step. `left` is the number of its tokens before the next rows,
/// its end, or the index where it has to stop.
struct PendingPrompt {
    sequence: Sequence,
    left: usize,
    is_at_rows: bool,
}

impl<'a> Worker<'a> {
    fn new(
        model: &'a Model,
        sizes: Sizes,
        ahead: ReadAhead,
        inbox: &'a Arc<Inbox>,
        cache: Cache<'a>,
        drafts: Option<Drafts<'a>>,
        disk: Option<Disk>,
    ) -> Self {
        let slots = (0..sizes.parallel).map(|_| Slot::new()).collect();
        let min_copy = slots::min_copy(sizes.context as usize);
        let scratch = Scratch::default();
        let can_guess = ahead.lookup && drafts.is_none() && model.facts.can_roll_back;
        let lookup =
            can_guess.then(|| Lookup::new(sizes.parallel as usize, model.facts.vocabulary));
        Self {
            model,
            sizes,
            inbox,
            cache,
            drafts,
            lookup,
            fast_forward: ahead.forced,
            slots,
            pool: Pool::new(sizes.cache_memory),
            disk,
            loaded: Arc::default(),
            scratch,
            threads: ComputeThreads::new(sizes.threads),
            clock: 0,
            min_copy,
            has_read_rows: false,
        }
    }

    /// Computes one token with the model and the draft model, and discards it. This loads the
    /// weights into memory, and proves that the models work.
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
        self.take_loaded();
        self.admit(jobs);
        self.share_beginnings();
        match self.prepare() {
            Ok(step) if step.sampled.is_empty() && self.cache.is_empty_step() => {
                if !self.has_read_rows {
                    self.rest();
                }
            }
            Ok(step) => match self.compute(&step) {
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

    /// Computes a step, with as many threads as are fastest. A request that has to be reproducible
    /// gets all of them, because llama.cpp's attention sums in another order for another number.
    fn compute(&mut self, step: &Step) -> Result<(), String> {
        let rows = self.cache.rows();
        let of_answers: usize = step.sampled.iter().map(|row| 1 + row.ahead()).sum();
        let counts = rows == of_answers && !self.is_to_be_reproducible();
        let rows = counts.then_some(rows);
        self.cache.use_threads(self.threads.next(rows));
        let begun = Instant::now();
        self.cache.compute()?;
        if let Some(threads) = self.threads.took(rows, begun.elapsed()) {
            tracing::debug!(
                threads,
                "the number of threads is changed, because steps are faster with it"
            );
        }
        Ok(())
    }

    /// Whether the only request has a seed.
    fn is_to_be_reproducible(&self) -> bool {
        let mut tasks = self.slots.iter().filter_map(|slot| slot.task.as_ref());
        let first = tasks.next();
        first.is_some_and(|task| task.is_reproducible) && tasks.next().is_none()
    }

    /// Waits for work. If there is none for a while, writes the content of a slot to disk, so that
    /// it survives a restart.
    fn rest(&mut self) {
        match self.unwritten_slot() {
            None => self.inbox.wait(),
            Some(sequence) => {
                let has_work = self.inbox.wait_for(QUIET);
                if !has_work {
                    self.write_slot(sequence);
                }
            }
        }
    }

    /// Frees the slots whose readers have left. The cached tokens stay, because similar requests
    /// can reuse them.
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
            let generation = &job.generation;
            // There is a free slot for each job, because the inbox returns no more jobs than that.
            let Some(place) = slots::assign(
                &self.slots,
                &generation.prompt,
                &generation.scope,
                self.min_copy,
                self.can_roll_back(),
            ) else {
                continue;
            };
            if let Some(elsewhere) = place.moved_to
                && !self.keep(place.slot, 0, Importance::Conversation)
            {
                let all = self.slots[place.slot].tokens.len();
                self.copy(place.slot, elsewhere, all, all);
                self.slots[elsewhere].last_used = self.slots[place.slot].last_used;
            }
            let begins_empty = alone && generation.is_to_be_reproducible();
            self.clock += 1;
            let mut task = Task::new(job, self.clock, self.sizes.context as usize);
            if begins_empty {
                // With an empty cache, the results are the same bit by bit. A beginning that was
                // computed together with other requests differs slightly, which is enough for
                // another token to be sampled.
                self.begin_empty(place.slot, &task);
                if let Some(drafts) = &mut self.drafts {
                    drafts.forget(place.slot);
                }
            } else {
                task.cached = self.begin_with_cached(place.slot, &task);
                task.is_loading = self.load_more(place.slot, &task);
            }
            if let Some(lookup) = &mut self.lookup {
                lookup.forget(place.slot);
            }
            self.slots[place.slot].is_written = false;
            task.sender.send(Ok(Output::Reading));
            self.slots[place.slot].task = Some(task);
        }
    }

    fn can_roll_back(&self) -> bool {
        self.model.facts.can_roll_back
    }

    /// Truncates a slot's cache to `kept` tokens. `position` is the position of the first removed
    /// token. Clears the cache if the model cannot truncate.
    fn truncate(&mut self, sequence: Sequence, kept: usize, position: usize) {
        let can_keep = self.slots[sequence].can_keep(kept, self.can_roll_back());
        let kept = if can_keep && self.cache.truncate(sequence, position) {
            kept
        } else {
            0
        };
        let slot = &mut self.slots[sequence];
        if kept == 0 {
            self.cache.truncate(sequence, 0);
            slot.cut_from = 0;
        }
        slot.tokens.truncate(kept);
    }

    /// Copies the first `end` tokens of another slot's cache. `position` is the position of the
    /// token after them. Returns whether that worked.
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
        self.slots[to].cut_from = if copied { self.slots[from].cut_from } else { 0 };
        let scope = self.slots[from].scope.clone();
        self.slots[to].scope = scope;
        self.slots[to].is_written = false;
        copied
    }

    /// Copies the beginnings of prompts from slots that have already read them.
    fn share_beginnings(&mut self) {
        for reader in 0..self.slots.len() {
            let Some((from, end)) =
                slots::copy_source(&self.slots, reader, self.min_copy, self.can_roll_back())
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
                // The copy has all of this slot's content, so this slot is reused first.
                source.last_used = 0;
            }
        }
    }

    /// Builds the step: the next token of every answer whose reader has room, and tokens of
    /// prompts.
    fn prepare(&mut self) -> Result<Step, String> {
        self.cache.begin();
        self.has_read_rows = false;
        let mut step = Step::default();
        for ahead in self.read_ahead() {
            let row = self.add_to_answer(&ahead)?;
            step.sampled.push(SampledRow {
                sequence: ahead.sequence,
                row,
                forced: ahead.forced.len(),
                drafted: ahead.drafted.len(),
            });
        }
        let rows = self.cache.rows();
        let alone = self.sizes.alone as usize;
        let each = if step.sampled.is_empty() {
            alone
        } else {
            self.sizes.piece as usize
        };
        let most = alone.min((self.sizes.batch as usize).saturating_sub(rows));
        self.prepare_prompts(each, most, &mut step)?;
        Ok(step)
    }

    /// Adds the next token of an answer to the step, and the tokens that are read ahead. Returns
    /// the row of the first one.
    fn add_to_answer(&mut self, ahead: &Ahead) -> Result<i32, String> {
        let row = self.cache.next_row();
        let slot = &mut self.slots[ahead.sequence];
        let Some(task) = &mut slot.task else {
            return Ok(row);
        };
        for (at, token) in ahead.tokens().enumerate() {
            let position = task.prompt.position(slot.tokens.len());
            let is_wanted = task.needs_logits(at);
            self.cache.add(ahead.sequence, position, token, is_wanted)?;
            slot.tokens.push(token);
        }
        Ok(row)
    }

    /// Adds up to `each` tokens of each pending prompt, and at most `most` in total.
    fn prepare_prompts(&mut self, each: usize, most: usize, step: &mut Step) -> Result<(), String> {
        self.clock += 1;
        let mut prompts = self.pending_prompts();
        // A step reads the image of at most one prompt, because each image is a separate
        // computation.
        let with_rows = prompts
            .iter()
            .position(|prompt| prompt.is_at_rows)
            .map(|at| prompts[at].sequence);
        prompts.retain(|prompt| !prompt.is_at_rows);
        self.bound_scored(&mut prompts);
        // If prompts also read tokens, half of the room is for them.
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
                    forced: 0,
                    drafted: 0,
                });
            }
        }
        slot.tokens
            .extend_from_slice(&task.prompt[start..start + part]);
        Ok(())
    }

    /// Computes the next rows of the image or sound in a prompt: at most `room`, or all of them if
    /// they have to be computed together. Returns how much of the room they used.
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

    /// The prompts that can be read in this step, those that have waited longest first. A prompt is
    /// left out while another one is reading tokens that both need. That other one stops where the
    /// common part ends, so that the first does not wait longer than necessary.
    fn pending_prompts(&self) -> Vec<PendingPrompt> {
        let mut until = vec![usize::MAX; self.slots.len()];
        let mut order: Vec<(u64, u64, Sequence)> = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            let reading = slot.task.as_ref().filter(|task| task.next.is_none());
            let Some(task) = reading.filter(|task| !task.is_paused() && !task.is_loading) else {
                continue;
            };
            match slots::waits_for(&self.slots, sequence, self.min_copy) {
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
        tracing::error!(what, "a step failed; all active requests get an error");
        self.cache.clear();
        if let Some(drafts) = &mut self.drafts {
            drafts.clear();
        }
        for slot in &mut self.slots {
            slot.tokens.clear();
            slot.cut_from = 0;
            if let Some(task) = slot.task.take() {
                task.fail(EngineError::Compute(what.to_owned()));
            }
        }
    }
}
