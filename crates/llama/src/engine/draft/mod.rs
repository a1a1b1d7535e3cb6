//! Speculative decoding: a draft model proposes the next tokens of answers, and the model verifies
//! several of them in one step.
//!
//! The answers do not depend on it: the request's own sampler chooses each token from the model's
//! own logits, and a draft token is only accepted if it equals the chosen one. Reading order:
//! [`Drafts`] (the draft model's context, and its proposals), `trial` (whether drafting makes
//! answers faster).

mod trial;

use std::time::{Duration, Instant};

use super::cache::{Cache, Sequence};
use super::sizes::Sizes;
use super::slots::{Slot, common};
use super::work::Work;
use crate::Token;
use crate::error::LoadError;
use crate::model::Model;
use crate::sample::{likeliest, rank};
use trial::{Trial, Verdict};

/// A draft token with a lower probability than this (in the draft model) is not worth verifying.
const SURE_ENOUGH: f32 = 0.5;

/// The time that the draft model takes to catch up with the text is added to the cost of drafting
/// gradually, over about this many steps.
const READING_IS_SPREAD_OVER: u32 = 64;

/// The draft model's state for all slots.
pub(super) struct Drafts<'model> {
    cache: Cache<'model>,
    /// The tokens of each sequence in the draft model's context, from position 0.
    held: Vec<Vec<Token>>,
    /// The number of tokens to draft for each sequence. It shrinks after a rejected token and grows
    /// after an accepted one.
    lengths: Vec<usize>,
    most: usize,
    /// Whether to draft regardless of the cost.
    always: bool,
    /// The sizes of the model's and of the draft model's vocabulary.
    vocabulary: usize,
    own_vocabulary: usize,
    /// The maximum number of tokens of a sequence in the draft model's context.
    context: usize,
    /// The number of tokens that it reads in a step to catch up.
    piece: usize,
    trial: Trial,
    /// The reading time that has not been added to the cost yet.
    reading: Duration,
    /// The current step, if it is measured.
    step: Option<Step>,
    /// The number of draft tokens since the last verdict, and of the accepted ones among them.
    guessed: usize,
    right: usize,
}

/// A step whose time is measured.
struct Step {
    began: Instant,
    answers: usize,
    guessing: bool,
}

/// The draft tokens for one sequence. They follow its next token.
pub(super) struct Guess {
    pub(super) sequence: Sequence,
    pub(super) tokens: Vec<Token>,
    /// The maximum number of draft tokens.
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
            held: vec![Vec::new(); parallel],
            lengths: vec![most; parallel],
            most,
            always: draft.options.always,
            vocabulary: model.facts.vocabulary,
            own_vocabulary: usize::try_from(draft.llama.n_vocab()).unwrap_or(0),
            context: sizes.context as usize,
            piece: sizes.piece as usize,
            trial: Trial::new(parallel),
            reading: Duration::ZERO,
            step: None,
            guessed: 0,
            right: 0,
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

    /// Clears a sequence, so that the same tokens are drafted again from the same beginning.
    pub(super) fn forget(&mut self, sequence: Sequence) {
        self.cache.cut(sequence, 0);
        self.held[sequence].clear();
        self.lengths[sequence] = self.most;
    }

    /// Clears all sequences.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.held.iter_mut().for_each(Vec::clear);
        self.lengths.fill(self.most);
    }

    /// Drafts the next tokens of answers, if that is useful in this step. `room` is the number of
    /// tokens that the model can verify for each answer.
    pub(super) fn guess(&mut self, slots: &[Slot], room: usize) -> Result<Vec<Guess>, String> {
        self.step = None;
        let began = Instant::now();
        // A step with a prompt has no room for draft tokens: they would delay the prompt.
        if slots
            .iter()
            .any(|slot| slot.work.as_ref().is_some_and(|work| work.next.is_none()))
        {
            return Ok(Vec::new());
        }
        let writing = || {
            slots
                .iter()
                .enumerate()
                .filter_map(|(at, slot)| Some((at, slot, slot.work.as_ref()?)))
        };
        let answers = writing()
            .filter(|(_, _, work)| work.outlet.has_room())
            .count();
        let by_the_clock = !self.always;
        // A seed has to give the same text again if the request runs alone. So measured times must
        // not influence it, because tokens that are verified together are summed in another order.
        let is_seeded = by_the_clock
            && writing().count() == 1
            && writing().any(|(_, _, work)| work.is_reproducible);
        if answers == 0 || is_seeded {
            return Ok(Vec::new());
        }
        if by_the_clock && !self.trial.is_to_guess(answers) {
            self.step = Some(Step {
                began,
                answers,
                guessing: false,
            });
            return Ok(Vec::new());
        }
        let guess = |(sequence, slot, work): (Sequence, &Slot, &Work)| {
            let room = room
                .min(work.most_guesses())
                .min(self.room(sequence, slot, work));
            (room > 0).then_some(Guess {
                sequence,
                tokens: Vec::new(),
                room,
            })
        };
        let mut guesses: Vec<Guess> = writing().filter_map(guess).collect();
        if guesses.is_empty() {
            return Ok(Vec::new());
        }
        if !self.catch_up(slots, &mut guesses)? {
            self.reading += began.elapsed();
            return Ok(Vec::new());
        }
        self.go_on(&mut guesses)?;
        self.step = Some(Step {
            began,
            answers,
            guessing: true,
        });
        guesses.retain(|guess| !guess.tokens.is_empty());
        Ok(guesses)
    }

    /// The number of tokens that can be drafted for a sequence: 0 if the sequence contains
    /// something that the draft model cannot read, such as an image.
    fn room(&self, sequence: Sequence, slot: &Slot, work: &Work) -> usize {
        let read = common(&self.held[sequence], &slot.held);
        let mut unread = slot.held[read..].iter().chain(&work.next);
        let is_known = unread.all(|&token| (token as usize) < self.own_vocabulary);
        if is_known {
            self.context.saturating_sub(slot.held.len())
        } else {
            0
        }
    }

    /// Reads the new tokens of the sequences into the draft model, and drafts the first token of
    /// each. Returns `false` if it needs another step to catch up.
    fn catch_up(&mut self, slots: &[Slot], guesses: &mut [Guess]) -> Result<bool, String> {
        self.cache.begin();
        let mut left = self.piece.max(guesses.len());
        let mut rows = Vec::new();
        for (at, guess) in guesses.iter().enumerate() {
            let Some(next) = slots[guess.sequence]
                .work
                .as_ref()
                .and_then(|work| work.next)
            else {
                continue;
            };
            let (theirs, own) = (&slots[guess.sequence].held, &mut self.held[guess.sequence]);
            let known = common(own, theirs);
            if known < own.len() {
                if !self.cache.cut(guess.sequence, known) {
                    return Err("its context cannot be cut".to_owned());
                }
                own.truncate(known);
            }
            let missing = theirs[known..].iter().copied().chain([next]);
            for token in missing.take(left) {
                let is_last = own.len() == theirs.len();
                let row = self.cache.add(guess.sequence, own.len(), token, is_last)?;
                own.push(token);
                left -= 1;
                if is_last {
                    rows.push((at, row));
                }
            }
        }
        self.cache.compute()?;
        if rows.len() < guesses.len() {
            return Ok(false);
        }
        self.read_guesses(guesses, &rows);
        Ok(true)
    }

    /// Drafts the second token of each sequence, the third, and so on, as long as the previous one
    /// was probable enough.
    fn go_on(&mut self, guesses: &mut [Guess]) -> Result<(), String> {
        for round in 1..self.most {
            self.cache.begin();
            let mut rows = Vec::new();
            for (at, guess) in guesses.iter().enumerate() {
                let length = self.lengths[guess.sequence].min(guess.room);
                let Some(&token) = guess
                    .tokens
                    .last()
                    .filter(|_| guess.tokens.len() == round && round < length)
                else {
                    continue;
                };
                let own = &mut self.held[guess.sequence];
                rows.push((at, self.cache.add(guess.sequence, own.len(), token, true)?));
                own.push(token);
            }
            if rows.is_empty() {
                break;
            }
            self.cache.compute()?;
            self.read_guesses(guesses, &rows);
        }
        Ok(())
    }

    fn read_guesses(&mut self, guesses: &mut [Guess], rows: &[(usize, i32)]) {
        for &(at, row) in rows {
            let logits = self.cache.logits(row);
            let token = likeliest(logits);
            let (chance, _) = rank(logits, token, 0);
            // The model does not know the padding tokens of the draft model.
            if chance.logprob >= SURE_ENOUGH.ln() && (token as usize) < self.vocabulary {
                guesses[at].tokens.push(token);
            }
        }
    }

    /// Records how many draft tokens of a sequence were accepted.
    pub(super) fn learn(&mut self, sequence: Sequence, guessed: usize, right: usize) {
        self.guessed += guessed;
        self.right += right;
        self.lengths[sequence] = if right == guessed {
            (self.lengths[sequence] + 2).min(self.most)
        } else {
            (right + 1).min(self.most)
        };
    }

    /// Records the result of the step: the number of tokens of all answers.
    pub(super) fn step_is_over(&mut self, tokens: usize) {
        let Some(Step {
            began,
            answers,
            guessing,
        }) = self.step.take()
        else {
            return;
        };
        let mut time = began.elapsed();
        if guessing {
            let part = self.reading / READING_IS_SPREAD_OVER;
            self.reading -= part;
            time += part;
        }
        let Some(verdict) = self.trial.note(answers, guessing, time, tokens) else {
            return;
        };
        let (guessed, right) = (
            std::mem::take(&mut self.guessed),
            std::mem::take(&mut self.right),
        );
        say(&verdict, answers, guessed, right);
    }
}

/// Logs a verdict: a changed one at the level info, an unchanged one at the level debug.
fn say(
    &Verdict {
        guesses,
        plain,
        guessing,
        is_news,
    }: &Verdict,
    answers: usize,
    guessed: usize,
    right: usize,
) {
    let (without, with) = (1.0 / plain, 1.0 / guessing);
    let from_now_on = if guesses { "guesses" } else { "stands idle" };
    let figures = format!(
        "{answers} at once: {without:.1} tokens a second without the draft model, {with:.1} with it, {right} of {guessed} guesses right; \
         it {from_now_on}"
    );
    if is_news {
        tracing::info!("{figures}");
    } else {
        tracing::debug!("{figures}");
    }
}
