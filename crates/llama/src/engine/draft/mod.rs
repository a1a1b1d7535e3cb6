//! Guessing ahead: a draft model says how answers may go on, and the model itself looks at several
//! tokens of each in one step.
//!
//! What is said does not depend on it: each token is chosen by the request's own sampler from the
//! model's own logits, and a guess only counts where it is the token that was chosen anyway.
//! Reading order: [`Drafts`] (the draft's context, and its guesses), `trial` (whether they pay).

mod trial;

use std::time::{Duration, Instant};

use super::Sizes;
use super::cache::{Cache, Sequence};
use super::slots::{Slot, common};
use super::work::Work;
use crate::Token;
use crate::error::LoadError;
use crate::model::Model;
use crate::sample::{likeliest, rank};
use trial::{Trial, Verdict};

/// A guess that the draft itself thinks less likely than this is not worth a look of the model.
const SURE_ENOUGH: f32 = 0.5;

/// What the draft takes to read what was said before is reckoned to its guesses little by little,
/// over about so many steps.
const READING_IS_SPREAD_OVER: u32 = 64;

/// The draft model's side of the slots.
pub(super) struct Drafts<'model> {
    cache: Cache<'model>,
    /// What the draft's context holds of each sequence, from position 0.
    held: Vec<Vec<Token>>,
    /// How many tokens to guess for each: fewer after a guess that was wrong, more after one that
    /// was right.
    lengths: Vec<usize>,
    most: usize,
    /// Whether guesses are made whatever they cost.
    always: bool,
    /// How many tokens the model knows, and how many the draft does.
    vocabulary: usize,
    own_vocabulary: usize,
    /// The most tokens of a sequence that it reads.
    context: usize,
    /// Tokens that it reads in a step to catch up.
    piece: usize,
    trial: Trial,
    /// What reading took that has not been reckoned yet.
    reading: Duration,
    /// The step under way, where it counts.
    step: Option<Step>,
    /// Guesses since the last verdict, and how many of them were right.
    guessed: usize,
    right: usize,
}

/// A step that is being timed.
struct Step {
    began: Instant,
    answers: usize,
    guessing: bool,
}

/// Guesses for one sequence: they follow its next token.
pub(super) struct Guess {
    pub(super) sequence: Sequence,
    pub(super) tokens: Vec<Token>,
    /// How many there may be at most.
    room: usize,
}

impl<'model> Drafts<'model> {
    /// Reserves the draft's memory; none where the model has no draft.
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

    /// Computes one token for nobody, so that the weights are in memory before anything is timed.
    pub(super) fn warm_up(&mut self) -> Result<(), String> {
        self.cache.begin();
        self.cache.add(0, 0, 0, true)?;
        self.cache.compute()?;
        self.cache.clear();
        Ok(())
    }

    /// Forgets a sequence, so that from it the same guesses follow another time.
    pub(super) fn forget(&mut self, sequence: Sequence) {
        self.cache.cut(sequence, 0);
        self.held[sequence].clear();
        self.lengths[sequence] = self.most;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.held.iter_mut().for_each(Vec::clear);
        self.lengths.fill(self.most);
    }

    /// Guesses how answers go on, where that is of use in this step. `room` is how many tokens the
    /// model can look at for each of them.
    pub(super) fn guess(&mut self, slots: &[Slot], room: usize) -> Result<Vec<Guess>, String> {
        self.step = None;
        let began = Instant::now();
        // Beside a prompt there is no room for guesses: they would make it wait.
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
        // A seed is to give a request that is alone the same text another time: what the clock says
        // must have no part in it, since tokens that are looked at together are summed in another
        // order.
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

    /// How many tokens the draft can guess for a sequence: none where it has something in it that
    /// the draft does not know, as pictures are.
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

    /// Reads what the draft has not seen of the sequences, and guesses the first token of each;
    /// `false` where it has to read on in another step.
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

    /// Guesses the second token of each, the third, and so on, where the one before was sure
    /// enough.
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
            // A token of the padding is none that the model knows.
            if chance.logprob >= SURE_ENOUGH.ln() && (token as usize) < self.vocabulary {
                guesses[at].tokens.push(token);
            }
        }
    }

    /// Takes note of how many of a sequence's guesses were right.
    pub(super) fn learn(&mut self, sequence: Sequence, guessed: usize, right: usize) {
        self.guessed += guessed;
        self.right += right;
        self.lengths[sequence] = if right == guessed {
            (self.lengths[sequence] + 2).min(self.most)
        } else {
            (right + 1).min(self.most)
        };
    }

    /// Takes note of what came of the step: how many tokens, all answers together.
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

/// A change of mind is for everybody who runs this; that it stays the same, for who looks closer.
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
