//! Speculative decoding: a draft model proposes the next tokens of answers, and the target model
//! verifies several of them in one step.
//!
//! The answers do not depend on it: the request's own sampler chooses each token from the target
//! model's logits, and a draft token is only accepted if it equals the chosen one. Reading order:
//! [`Drafts`] (the draft model's context, and its proposals), `trial` (whether drafting makes
//! answers faster).

mod trial;

use std::time::{Duration, Instant};

use super::cache::{Cache, Sequence};
use super::sizes::Sizes;
use super::slots::{Slot, common_prefix};
use super::task::Task;
use crate::Token;
use crate::error::LoadError;
use crate::model::Model;
use crate::sample::{likeliest, rank};
use trial::{Trial, Verdict};

/// A draft token with a lower probability than this (in the draft model) is not worth verifying.
const MIN_PROBABILITY: f32 = 0.5;

/// The number of steps over which the time for catching up is spread. Catching up (reading the text
/// that the draft model has not seen) is part of the cost of drafting, but happens in a single
/// step.
const CATCH_UP_STEPS: u32 = 64;

/// The draft model's state for all slots.
pub(super) struct Drafts<'model> {
    cache: Cache<'model>,
    /// The tokens of each sequence in the draft model's context, from position 0.
    tokens: Vec<Vec<Token>>,
    /// The number of tokens to draft for each sequence. It shrinks when a token is rejected and
    /// grows when all are accepted.
    lengths: Vec<usize>,
    most: usize,
    /// Whether to draft regardless of the cost.
    always: bool,
    /// The size of the target model's vocabulary, and of the draft model's.
    vocabulary: usize,
    own_vocabulary: usize,
    /// The maximum number of tokens of a sequence in the draft model's context.
    context: usize,
    /// The number of tokens that the draft model reads in one step to catch up.
    piece: usize,
    trial: Trial,
    /// The time for catching up that has not been added to the cost yet.
    catch_up_time: Duration,
    /// The current step, if it is measured.
    step: Option<Step>,
    /// The number of draft tokens since the last decision whether to draft, and the number of
    /// accepted ones among them.
    drafted: usize,
    accepted: usize,
}

/// A step whose time is measured.
struct Step {
    began: Instant,
    answers: usize,
    drafting: bool,
}

/// The draft tokens for one sequence. They follow the token that its sampler chose last.
pub(super) struct DraftTokens {
    pub(super) sequence: Sequence,
    pub(super) tokens: Vec<Token>,
    /// The maximum number of draft tokens for this sequence.
    room: usize,
}

impl<'model> Drafts<'model> {
    /// Reserves the draft model's memory. Returns `None` if the model has no draft model.
    pub(super) fn new(model: &'model Model, sizes: Sizes) -> Result<Option<Self>, LoadError> {
        let Some(draft) = &model.draft else {
            return Ok(None);
        };
        let sizes = sizes.of_draft(draft.context);
        let no_memory = LoadError::Context {
            context: sizes.context,
            parallel: sizes.parallel,
        };
        let parallel = sizes.parallel as usize;
        let most = draft.options.tokens as usize;
        Ok(Some(Self {
            cache: Cache::over(&draft.llama, sizes).ok_or(no_memory)?,
            tokens: vec![Vec::new(); parallel],
            lengths: vec![most; parallel],
            most,
            always: draft.options.always,
            vocabulary: model.facts.vocabulary,
            own_vocabulary: usize::try_from(draft.llama.n_vocab()).unwrap_or(0),
            context: sizes.context as usize,
            piece: sizes.piece as usize,
            trial: Trial::new(parallel),
            catch_up_time: Duration::ZERO,
            step: None,
            drafted: 0,
            accepted: 0,
        }))
    }

    /// Computes one token and discards it, so that the weights are in memory before anything is
    /// measured.
    pub(super) fn warm_up(&mut self) -> Result<(), String> {
        self.cache.begin();
        self.cache.add(0, 0, 0, true)?;
        self.cache.compute()?;
        self.cache.clear();
        Ok(())
    }

    /// Clears a sequence, so that a repeated request gets the same draft tokens.
    pub(super) fn forget(&mut self, sequence: Sequence) {
        self.cache.truncate(sequence, 0);
        self.tokens[sequence].clear();
        self.lengths[sequence] = self.most;
    }

    /// Clears all sequences.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.tokens.iter_mut().for_each(Vec::clear);
        self.lengths.fill(self.most);
    }

    /// Drafts the next tokens of answers, if that is useful in this step. `are_forced` says of
    /// which slots the next tokens are known anyway; nothing is drafted for them. `room` is the
    /// number of tokens that the model can verify for each answer.
    pub(super) fn draft(
        &mut self,
        slots: &[Slot],
        are_forced: &[bool],
        room: usize,
    ) -> Result<Vec<DraftTokens>, String> {
        self.step = None;
        let began = Instant::now();
        // A step that reads a prompt has no room for draft tokens: they would delay the prompt.
        if slots
            .iter()
            .any(|slot| slot.task.as_ref().is_some_and(|task| task.next.is_none()))
        {
            return Ok(Vec::new());
        }
        let answers = writing(slots)
            .filter(|(_, _, task)| task.sender.has_room())
            .count();
        let is_measured = !self.always;
        let is_seeded = is_measured && is_reproducible_alone(slots);
        if answers == 0 || is_seeded {
            return Ok(Vec::new());
        }
        // A step with forced tokens takes longer and brings more, whether there are drafts or not.
        let is_usual = !are_forced.contains(&true);
        if is_measured && !self.trial.should_draft(answers) {
            self.step = is_usual.then_some(Step {
                began,
                answers,
                drafting: false,
            });
            return Ok(Vec::new());
        }
        let mut drafts = self.empty_drafts(slots, are_forced, room);
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        if !self.catch_up(slots, &mut drafts)? {
            self.catch_up_time += began.elapsed();
            return Ok(Vec::new());
        }
        self.continue_drafts(&mut drafts)?;
        self.step = is_usual.then_some(Step {
            began,
            answers,
            drafting: true,
        });
        drafts.retain(|draft| !draft.tokens.is_empty());
        Ok(drafts)
    }

    /// Returns an empty draft for each answer that tokens can be drafted for.
    fn empty_drafts(&self, slots: &[Slot], are_forced: &[bool], room: usize) -> Vec<DraftTokens> {
        let draft = |(sequence, slot, task): (Sequence, &Slot, &Task)| {
            let room = room
                .min(task.max_draft_tokens())
                .min(self.room(sequence, slot, task));
            (room > 0 && !are_forced[sequence]).then_some(DraftTokens {
                sequence,
                tokens: Vec::new(),
                room,
            })
        };
        writing(slots).filter_map(draft).collect()
    }

    /// The number of tokens that can be drafted for a sequence: 0 if the sequence contains
    /// something that the draft model cannot read, such as an image.
    fn room(&self, sequence: Sequence, slot: &Slot, task: &Task) -> usize {
        let read = common_prefix(&self.tokens[sequence], &slot.tokens);
        let mut unread = slot.tokens[read..].iter().chain(&task.next);
        let is_known = unread.all(|&token| (token as usize) < self.own_vocabulary);
        if is_known {
            self.context.saturating_sub(slot.tokens.len())
        } else {
            0
        }
    }

    /// Reads the tokens that the draft model has not seen yet, and drafts the first token of each
    /// sequence. Returns `false` if the draft model needs another step to catch up.
    fn catch_up(&mut self, slots: &[Slot], drafts: &mut [DraftTokens]) -> Result<bool, String> {
        self.cache.begin();
        let mut left = self.piece.max(drafts.len());
        let mut rows = Vec::new();
        for (at, draft) in drafts.iter().enumerate() {
            let Some(next) = slots[draft.sequence]
                .task
                .as_ref()
                .and_then(|task| task.next)
            else {
                continue;
            };
            let (theirs, own) = (
                &slots[draft.sequence].tokens,
                &mut self.tokens[draft.sequence],
            );
            let known = common_prefix(own, theirs);
            if known < own.len() {
                if !self.cache.truncate(draft.sequence, known) {
                    return Err("its cache cannot be truncated".to_owned());
                }
                own.truncate(known);
            }
            let missing = theirs[known..].iter().copied().chain([next]);
            for token in missing.take(left) {
                let is_last = own.len() == theirs.len();
                let row = self.cache.add(draft.sequence, own.len(), token, is_last)?;
                own.push(token);
                left -= 1;
                if is_last {
                    rows.push((at, row));
                }
            }
        }
        self.cache.compute()?;
        if rows.len() < drafts.len() {
            return Ok(false);
        }
        self.append_drafted(drafts, &rows);
        Ok(true)
    }

    /// Drafts the second token of each sequence, then the third, and so on, as long as the previous
    /// one was probable enough.
    fn continue_drafts(&mut self, drafts: &mut [DraftTokens]) -> Result<(), String> {
        for round in 1..self.most {
            self.cache.begin();
            let mut rows = Vec::new();
            for (at, draft) in drafts.iter().enumerate() {
                let length = self.lengths[draft.sequence].min(draft.room);
                let Some(&token) = draft
                    .tokens
                    .last()
                    .filter(|_| draft.tokens.len() == round && round < length)
                else {
                    continue;
                };
                let own = &mut self.tokens[draft.sequence];
                rows.push((at, self.cache.add(draft.sequence, own.len(), token, true)?));
                own.push(token);
            }
            if rows.is_empty() {
                break;
            }
            self.cache.compute()?;
            self.append_drafted(drafts, &rows);
        }
        Ok(())
    }

    fn append_drafted(&mut self, drafts: &mut [DraftTokens], rows: &[(usize, i32)]) {
        for &(at, row) in rows {
            let logits = self.cache.logits(row);
            let token = likeliest(logits);
            let (chance, _) = rank(logits, token, 0);
            // The target model does not have the padding tokens of the draft model's vocabulary.
            if chance.logprob >= MIN_PROBABILITY.ln() && (token as usize) < self.vocabulary {
                drafts[at].tokens.push(token);
            }
        }
    }

    /// Records how many draft tokens of a sequence were accepted, and adapts the number of tokens
    /// to draft next.
    pub(super) fn learn(&mut self, sequence: Sequence, drafted: usize, accepted: usize) {
        self.drafted += drafted;
        self.accepted += accepted;
        self.lengths[sequence] = if accepted == drafted {
            (self.lengths[sequence] + 2).min(self.most)
        } else {
            (accepted + 1).min(self.most)
        };
    }

    /// Ends the measurement of a step. `tokens` is the number of tokens that all answers gained.
    pub(super) fn step_is_over(&mut self, tokens: usize) {
        let Some(Step {
            began,
            answers,
            drafting,
        }) = self.step.take()
        else {
            return;
        };
        let mut time = began.elapsed();
        if drafting {
            let part = self.catch_up_time / CATCH_UP_STEPS;
            self.catch_up_time -= part;
            time += part;
        }
        let Some(verdict) = self.trial.record(answers, drafting, time, tokens) else {
            return;
        };
        let (drafted, accepted) = (
            std::mem::take(&mut self.drafted),
            std::mem::take(&mut self.accepted),
        );
        log(&verdict, answers, drafted, accepted);
    }
}

/// Returns the slots that write an answer, with their numbers.
fn writing(slots: &[Slot]) -> impl Iterator<Item = (Sequence, &Slot, &Task)> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(at, slot)| Some((at, slot, slot.task.as_ref()?)))
}

/// Whether the only running request has a seed. It has to give the same text again if it runs
/// alone. Tokens that are verified together are summed in another order, so drafting must not
/// depend on measured times then.
fn is_reproducible_alone(slots: &[Slot]) -> bool {
    let mut running = writing(slots);
    let first = running.next();
    first.is_some_and(|(_, _, task)| task.is_reproducible) && running.next().is_none()
}

/// Logs a verdict: a changed one at the level info, an unchanged one at the level debug.
fn log(verdict: &Verdict, answers: usize, drafted: usize, accepted: usize) {
    let (without, with) = (1.0 / verdict.plain, 1.0 / verdict.drafting);
    let state = if verdict.is_faster { "on" } else { "off" };
    let figures = format!(
        "speculative decoding is {state} for {answers} parallel answers: {without:.1} tokens per second without it, {with:.1} with it, \
         {accepted} of {drafted} draft tokens accepted"
    );
    if verdict.is_new {
        tracing::info!("{figures}");
    } else {
        tracing::debug!("{figures}");
    }
}
