//! Measures whether speculative decoding makes answers faster. For each number of parallel answers,
//! it runs some steps with drafting and some without, and then uses the faster mode for a longer
//! time. Pure: the caller measures the times.

use std::time::Duration;

/// The number of steps that each mode (with and without drafting) is tried for.
const TRIAL: u32 = 16;

/// The number of steps with the faster mode before the slower one is tried again. It doubles each
/// time the slower one is still slower.
const FIRST_PAUSE: u32 = 256;
const LONGEST_PAUSE: u32 = 8192;

/// The maximum number of parallel answers that has a measurement of its own. Larger numbers share
/// the last one.
const MOST_ANSWERS: usize = 16;

/// One measurement for each number of parallel answers, because the cost of a step depends on it
/// more than on anything else.
pub(super) struct Trial(Vec<Measurement>);

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Whether drafting is faster, and is used from now on.
    pub(super) is_faster: bool,
    /// The seconds per token without drafting, and with drafting.
    pub(super) plain: f64,
    pub(super) drafting: f64,
    /// Whether the verdict differs from the last one for the same number of answers.
    pub(super) is_new: bool,
}

#[derive(Debug, Clone)]
struct Measurement {
    plain: Rate,
    drafting: Rate,
    /// Whether the current steps use drafting, and the number of remaining steps in this mode.
    is_drafting: bool,
    left: u32,
    /// Whether drafting was faster. `None` until both modes have been tried.
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
        // Older measurements count less, because the text and the load of the machine change.
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
        let measurement = Measurement {
            plain: Rate::default(),
            drafting: Rate::default(),
            is_drafting: true,
            left: TRIAL,
            verdict: None,
            pause: FIRST_PAUSE,
        };
        Self(vec![measurement; parallel.clamp(1, MOST_ANSWERS)])
    }

    /// Whether the next step, with `answers` parallel answers, should use drafting.
    pub(super) fn should_draft(&mut self, answers: usize) -> bool {
        self.measurement(answers).is_drafting
    }

    /// Records a step. Returns a verdict if a trial has ended with it.
    pub(super) fn record(
        &mut self,
        answers: usize,
        drafting: bool,
        time: Duration,
        tokens: usize,
    ) -> Option<Verdict> {
        let measurement = self.measurement(answers);
        let rate = if drafting {
            &mut measurement.drafting
        } else {
            &mut measurement.plain
        };
        rate.add(time, tokens);
        if drafting != measurement.is_drafting {
            return None;
        }
        measurement.left = measurement.left.saturating_sub(1);
        if measurement.left > 0 {
            None
        } else {
            measurement.next_phase()
        }
    }

    fn measurement(&mut self, answers: usize) -> &mut Measurement {
        let last = self.0.len() - 1;
        &mut self.0[answers.saturating_sub(1).min(last)]
    }
}

impl Measurement {
    /// Chooses the next mode when the current one has had all its steps.
    fn next_phase(&mut self) -> Option<Verdict> {
        let both = self.plain.tokens > 0.0 && self.drafting.tokens > 0.0;
        // The second mode follows the first. After the pause, the slower mode is tried again.
        if !both || self.verdict == Some(self.is_drafting) {
            self.is_drafting = !self.is_drafting;
            self.left = TRIAL;
            return None;
        }
        let (plain, drafting) = (self.plain.of_token(), self.drafting.of_token());
        let is_faster = drafting < plain;
        let is_new = self.verdict != Some(is_faster);
        self.pause = if is_new {
            FIRST_PAUSE
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
        self.verdict = Some(is_faster);
        self.is_drafting = is_faster;
        self.left = self.pause;
        Some(Verdict {
            is_faster,
            plain,
            drafting,
            is_new,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `steps` steps whose tokens take the given milliseconds in each mode. Returns how many
    /// steps drafted, and the verdicts.
    fn go(trial: &mut Trial, steps: u32, plain: u64, drafting: u64) -> (u32, Vec<bool>) {
        let (mut with, mut shown) = (0, Vec::new());
        for _ in 0..steps {
            let is_drafting = trial.should_draft(1);
            with += u32::from(is_drafting);
            let (tokens, each) = if is_drafting {
                (3, drafting)
            } else {
                (1, plain)
            };
            let time = Duration::from_millis(each * tokens);
            let verdict = trial.record(1, is_drafting, time, usize::try_from(tokens).unwrap());
            shown.extend(
                verdict
                    .filter(|verdict| verdict.is_new)
                    .map(|verdict| verdict.is_faster),
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
        assert!(!trial.should_draft(1));
        assert!(trial.should_draft(2));
        // A number above the maximum shares the measurement of the maximum.
        trial.record(9, true, Duration::from_millis(1), 1);
        assert!(trial.should_draft(4));
    }
}
