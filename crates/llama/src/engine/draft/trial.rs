//! Measures whether speculative decoding makes answers faster. For each number of parallel answers,
//! it tries some steps with drafting and some without, and then uses the faster way for a longer
//! time. Pure: the caller measures the times.

use std::time::Duration;

/// The number of steps to try one way.
const TRIAL: u32 = 16;

/// The number of steps with the faster way before the other is tried again. It doubles each time
/// the other loses again.
const FIRST_PAUSE: u32 = 256;
const LONGEST_PAUSE: u32 = 8192;

/// More parallel answers than this are measured together.
const MOST_ANSWERS: usize = 16;

/// One measurement for each number of parallel answers, because the cost of a step depends on it
/// more than on anything else.
pub(super) struct Trial(Vec<Course>);

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Whether drafting is used from now on.
    pub(super) guesses: bool,
    /// The seconds for a token without drafting, and with it.
    pub(super) plain: f64,
    pub(super) guessing: f64,
    /// Whether the verdict differs from the last one.
    pub(super) is_news: bool,
}

#[derive(Debug, Clone)]
struct Course {
    plain: Rate,
    guessing: Rate,
    /// Whether the current steps use drafting, and the number of remaining steps with this choice.
    is_guessing: bool,
    left: u32,
    /// Whether drafting was faster, once both ways have been tried.
    verdict: Option<bool>,
    pause: u32,
}

/// The recent cost of a token.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    seconds: f64,
    tokens: f64,
}

impl Rate {
    fn add(&mut self, time: Duration, tokens: usize) {
        // Older measurements count less, because texts change, and so does the load of the machine.
        self.seconds = self.seconds * 0.95 + time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "tokens of one step")]
        let tokens = tokens as f64;
        self.tokens = self.tokens * 0.95 + tokens;
    }

    fn of_token(self) -> f64 {
        self.seconds / self.tokens.max(f64::MIN_POSITIVE)
    }
}

impl Trial {
    pub(super) fn new(parallel: usize) -> Self {
        let course = Course {
            plain: Rate::default(),
            guessing: Rate::default(),
            is_guessing: true,
            left: TRIAL,
            verdict: None,
            pause: FIRST_PAUSE,
        };
        Self(vec![course; parallel.clamp(1, MOST_ANSWERS)])
    }

    /// Whether the next step with `answers` answers is to draft.
    pub(super) fn is_to_guess(&mut self, answers: usize) -> bool {
        self.course(answers).is_guessing
    }

    /// Records a step. Returns a verdict if a trial has ended with it.
    pub(super) fn note(
        &mut self,
        answers: usize,
        guessing: bool,
        time: Duration,
        tokens: usize,
    ) -> Option<Verdict> {
        let course = self.course(answers);
        let rate = if guessing {
            &mut course.guessing
        } else {
            &mut course.plain
        };
        rate.add(time, tokens);
        if guessing != course.is_guessing {
            return None;
        }
        course.left = course.left.saturating_sub(1);
        if course.left > 0 { None } else { course.turn() }
    }

    fn course(&mut self, answers: usize) -> &mut Course {
        let last = self.0.len() - 1;
        &mut self.0[answers.saturating_sub(1).min(last)]
    }
}

impl Course {
    /// Chooses the next way when the current one has had all its steps.
    fn turn(&mut self) -> Option<Verdict> {
        let both = self.plain.tokens > 0.0 && self.guessing.tokens > 0.0;
        // The second way follows the first; after a pause follows the one that lost.
        if !both || self.verdict == Some(self.is_guessing) {
            self.is_guessing = !self.is_guessing;
            self.left = TRIAL;
            return None;
        }
        let (plain, guessing) = (self.plain.of_token(), self.guessing.of_token());
        let guesses = guessing < plain;
        let is_news = self.verdict != Some(guesses);
        self.pause = if is_news {
            FIRST_PAUSE
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
        self.verdict = Some(guesses);
        self.is_guessing = guesses;
        self.left = self.pause;
        Some(Verdict {
            guesses,
            plain,
            guessing,
            is_news,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `steps` steps whose tokens take the given milliseconds with each way. Returns how many
    /// steps drafted, and the verdicts.
    fn go(trial: &mut Trial, steps: u32, plain: u64, guessing: u64) -> (u32, Vec<bool>) {
        let (mut with, mut shown) = (0, Vec::new());
        for _ in 0..steps {
            let is_guessing = trial.is_to_guess(1);
            with += u32::from(is_guessing);
            let (tokens, each) = if is_guessing {
                (3, guessing)
            } else {
                (1, plain)
            };
            let time = Duration::from_millis(each * tokens);
            let verdict = trial.note(1, is_guessing, time, usize::try_from(tokens).unwrap());
            shown.extend(
                verdict
                    .filter(|verdict| verdict.is_news)
                    .map(|verdict| verdict.guesses),
            );
        }
        (with, shown)
    }

    #[test]
    fn guesses_that_cost_more_than_they_bring_are_soon_given_up_and_seldom_tried_again() {
        let mut trial = Trial::new(4);
        assert_eq!(go(&mut trial, 2 * TRIAL, 10, 15), (TRIAL, vec![false]));
        let (with, shown) = go(&mut trial, 10_000, 10, 15);
        assert!(
            with < 10_000 / 50 && shown.is_empty(),
            "{with} steps of 10,000"
        );
    }

    #[test]
    fn guesses_that_pay_are_made_nearly_always() {
        let mut trial = Trial::new(4);
        assert_eq!(go(&mut trial, 2 * TRIAL, 10, 6).1, [true]);
        assert!(go(&mut trial, 10_000, 10, 6).0 > 9_800);
    }

    #[test]
    fn what_begins_to_pay_is_found_out() {
        let mut trial = Trial::new(4);
        go(&mut trial, 200, 10, 15);
        assert_eq!(go(&mut trial, 2_000, 10, 5).1, [true]);
        assert_eq!(go(&mut trial, 10_000, 10, 15).1, [false]);
    }

    #[test]
    fn each_number_of_answers_has_a_verdict_of_its_own() {
        let mut trial = Trial::new(4);
        go(&mut trial, 2 * TRIAL, 10, 15);
        assert!(!trial.is_to_guess(1));
        assert!(trial.is_to_guess(2));
        // Numbers above the maximum count as the maximum.
        trial.note(9, true, Duration::from_millis(1), 1);
        assert!(trial.is_to_guess(4));
    }
}
