//! Lookup drafting: guesses the next tokens of an answer from the text of its prompt and answer so
//! far, without a draft model. The model verifies the guesses like draft tokens (`engine/draft`),
//! so they change no answer.
//!
//! Reading order: [`Lookup`] (the guesses of a step, and what is learned from them), `find`
//! (searches the text for its last tokens), `odds` (how often guesses are right), `cost` (how long
//! steps take). The odds are learned from all guesses, also from those that are not verified: each
//! chosen token shows whether its guess was right. So text that does not repeat costs only the
//! search, which takes microseconds.

mod cost;
mod find;
mod odds;

use std::time::Instant;

use super::slots::Slot;
use crate::Token;
use cost::Costs;
use find::{Found, find};
use odds::Odds;

/// The maximum number of guessed tokens in a step, for all answers together. Each needs a row of
/// logits.
const MOST: usize = 48;

/// The numbers of tokens per answer that are compared when a step is planned.
const LENGTHS: [usize; 7] = [1, 2, 4, 8, 16, 32, MOST];

/// A guessed token that is less likely than this to be right, with all before it, is not worth a
/// row.
const MIN_CHANCE: f64 = 0.2;

/// The state of lookup drafting for all slots.
pub(super) struct Lookup {
    /// How often the guesses of each slot's request were right, and of all requests.
    odds: Vec<Odds>,
    all_odds: Odds,
    costs: Costs,
    /// The size of the model's vocabulary. Numbers above it stand for rows of images and sounds.
    vocabulary: usize,
    /// The guesses for the current step, by slot.
    guesses: Vec<Option<Guess>>,
    step: Option<Step>,
}

/// A guess for one answer.
struct Guess {
    found: Found,
    /// The probability that each token and all before it are right.
    chances: Vec<f64>,
}

/// A step whose time is measured.
struct Step {
    began: Instant,
    answers: usize,
    guessed: usize,
}

impl Lookup {
    pub(super) fn new(parallel: usize, vocabulary: usize) -> Self {
        Self {
            odds: vec![Odds::default(); parallel],
            all_odds: Odds::expected(),
            costs: Costs::new(parallel),
            vocabulary,
            guesses: (0..parallel).map(|_| None).collect(),
            step: None,
        }
    }

    /// Forgets how often guesses were right in a slot, because it has a new request.
    pub(super) fn forget(&mut self, sequence: usize) {
        self.odds[sequence] = Odds::default();
        self.guesses[sequence] = None;
    }

    /// Begins a step, and measures its time.
    pub(super) fn begin_step(&mut self) {
        self.guesses.fill_with(|| None);
        self.step = Some(Step {
            began: Instant::now(),
            answers: 0,
            guessed: 0,
        });
    }

    /// Excludes the time of the current step from the statistics, because the step does more than
    /// continue answers.
    pub(super) fn ignore_time(&mut self) {
        self.step = None;
    }

    /// Guesses the tokens after the end of a text, at most `room`.
    pub(super) fn guess(&mut self, sequence: usize, text: &[Token], room: usize) {
        let Some(mut found) = find(text, room.min(MOST)) else {
            return;
        };
        let known = |token: &Token| (*token as usize) < self.vocabulary;
        let length = found.tokens.iter().take_while(|token| known(token)).count();
        found.tokens.truncate(length);
        let odds = &self.odds[sequence];
        let chances = (found.matched..)
            .take(length)
            .scan(1.0, |chance, matched| {
                *chance *= odds.chance(matched, &self.all_odds);
                Some(*chance)
            })
            .collect();
        self.guesses[sequence] = Some(Guess { found, chances });
    }

    /// The guessed tokens that are worth verifying, by slot. `answers` is the number of answers in
    /// the step.
    pub(super) fn plan(&mut self, answers: usize) -> Vec<Vec<Token>> {
        let guesses = || self.guesses.iter().flatten();
        // With `length` tokens for each answer: their number, and how many are expected to be
        // right.
        let sums = |length: usize| {
            let worth = guesses().map(|guess| guess.worth(length));
            let sum = |(count, right): (usize, f64), chances: &[f64]| {
                (count + chances.len(), right + chances.iter().sum::<f64>())
            };
            worth.fold((0, 0.0), sum)
        };
        let mut best = (0, self.costs.rate(answers, 0, 0.0));
        for length in LENGTHS {
            let (count, right) = sums(length);
            let rate = self.costs.rate(answers, count, right);
            if count > 0 && count <= MOST && rate > best.1 {
                best = (length, rate);
            }
        }
        let verified = |guess: &Option<Guess>| {
            guess.as_ref().map_or_else(Vec::new, |guess| {
                let count = guess.worth(best.0).len();
                guess.found.tokens[..count].to_vec()
            })
        };
        let plan: Vec<Vec<Token>> = self.guesses.iter().map(verified).collect();
        if let Some(step) = &mut self.step {
            step.answers = answers;
            step.guessed = plan.iter().map(Vec::len).sum();
        }
        plan
    }

    /// Learns from the tokens of a slot: the first `right` ones were as guessed, and `next` was
    /// chosen after them. `next` is `None` if the answer has ended before it.
    pub(super) fn learn(&mut self, sequence: usize, right: usize, next: Option<Token>) {
        let Some(Guess { found, .. }) = self.guesses[sequence].take() else {
            return;
        };
        let mut record = |at: usize, is_right: bool| {
            self.odds[sequence].record(found.matched + at, is_right);
            self.all_odds.record(found.matched + at, is_right);
        };
        for at in 0..right {
            record(at, true);
        }
        if let (Some(&guessed), Some(next)) = (found.tokens.get(right), next) {
            record(right, guessed == next);
        }
    }

    /// Ends the measurement of a step.
    pub(super) fn step_is_over(&mut self) {
        if let Some(step) = self.step.take().filter(|step| step.answers > 0) {
            self.costs
                .record(step.answers, step.guessed, step.began.elapsed());
        }
    }
}

impl Guess {
    /// The chances of up to `length` tokens, without those that are unlikely to be right.
    fn worth(&self, length: usize) -> &[f64] {
        let likely = self
            .chances
            .iter()
            .take(length)
            .take_while(|chance| **chance >= MIN_CHANCE);
        &self.chances[..likely.count()]
    }
}

/// Whether guesses may be made in this step. A step that reads a prompt has no room for them: they
/// would delay the prompt. A request with a seed that is alone has to give the same text again, and
/// tokens that are verified together are summed in another order, so measured times must not decide
/// about its steps.
pub(super) fn may_guess(slots: &[Slot]) -> bool {
    let mut tasks = slots.iter().filter_map(|slot| slot.task.as_ref());
    let reads = |slot: &Slot| slot.task.as_ref().is_some_and(|task| task.next.is_none());
    let is_seeded = match (tasks.next(), tasks.next()) {
        (Some(only), None) => only.is_reproducible,
        _ => false,
    };
    !is_seeded && !slots.iter().any(reads)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs an answer that follows `text`, where a step takes 10 ms and each guessed token
    /// `each_ms` more. Returns the number of steps that it took.
    fn steps(lookup: &mut Lookup, prompt: &[Token], answer: &[Token], each_ms: f64) -> usize {
        let mut text = prompt.to_vec();
        text.push(answer[0]);
        let (mut done, mut steps) = (1, 0);
        while done < answer.len() {
            lookup.guesses.fill_with(|| None);
            lookup.guess(0, &text, answer.len() - done);
            let plan = lookup.plan(1).swap_remove(0);
            let right = plan
                .iter()
                .zip(&answer[done..])
                .take_while(|(guessed, chosen)| guessed == chosen)
                .count();
            let next = answer.get(done + right).copied();
            lookup.learn(0, right, next);
            #[expect(clippy::cast_precision_loss, reason = "a few tokens")]
            let time = 0.010 + each_ms * plan.len() as f64 / 1000.0;
            lookup
                .costs
                .record(1, plan.len(), Duration::from_secs_f64(time));
            let gained = right + usize::from(next.is_some());
            text.extend_from_slice(&answer[done..done + gained]);
            done += gained;
            steps += 1;
        }
        steps
    }

    /// Numbers that do not repeat each other.
    fn unlike(count: u32, seed: u32) -> Vec<Token> {
        (0..count)
            .map(|at| (at + seed).wrapping_mul(2_654_435_761) % 30_000)
            .collect()
    }

    #[test]
    fn an_answer_that_repeats_its_prompt_takes_few_steps() {
        let mut lookup = Lookup::new(1, 30_000);
        let prompt = unlike(400, 1);
        let took = steps(&mut lookup, &prompt, &prompt[100..300], 3.0);
        assert!(took < 20, "{took} steps");
    }

    #[test]
    fn an_answer_that_repeats_nothing_is_not_guessed_at() {
        let mut lookup = Lookup::new(1, 30_000);
        assert_eq!(
            steps(&mut lookup, &unlike(400, 1), &unlike(200, 7000), 3.0),
            199
        );
        assert!((lookup.costs.rate(1, 0, 0.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn guesses_that_are_seldom_right_are_given_up_and_found_out_when_they_are_right_again() {
        let mut lookup = Lookup::new(1, 30_000);
        // Every three tokens of the answer are in the prompt, but something else follows there.
        let answer = unlike(600, 9);
        let mut prompt = Vec::new();
        for (at, four) in answer.windows(4).enumerate() {
            prompt.extend_from_slice(&four[..3]);
            prompt.push(Token::try_from(at % 7).unwrap());
        }
        let took = steps(&mut lookup, &prompt, &answer, 6.0);
        assert!(took > 580, "{took} steps");
        let before: usize = lookup.costs.steps_with_guesses();
        assert!(before < 60, "{before} steps with wrong guesses");
        lookup.forget(0);
        let copied = unlike(300, 77_777);
        let took = steps(&mut lookup, &copied, &copied[50..250], 3.0);
        assert!(took < 60, "{took} steps");
    }

    #[test]
    fn guesses_that_cost_as_much_as_a_step_are_given_up() {
        let mut lookup = Lookup::new(1, 30_000);
        let prompt = unlike(1200, 1);
        steps(&mut lookup, &prompt, &prompt[100..1100], 12.0);
        let tried = lookup.costs.steps_with_guesses();
        assert!(tried < 30, "{tried} steps with guesses");
    }

    #[test]
    fn rows_of_images_are_no_guesses() {
        let mut lookup = Lookup::new(1, 30_000);
        lookup.guess(0, &[1, 2, 3, 4, 1 << 31, 9, 1, 2, 3], 10);
        let guess = lookup.guesses[0].as_ref().unwrap();
        assert_eq!(guess.found.tokens, [4]);
    }
}
