//! How long steps take, by the number of answers and of guessed tokens. Pure: the caller measures
//! the times.

use std::time::Duration;

/// The maximum number of parallel answers for which times are kept separately. Larger numbers share
/// the last entry.
const MOST_ANSWERS: usize = 16;

/// The minimum numbers of guessed tokens of each class. The first class has none.
const CLASSES: [usize; 7] = [0, 1, 3, 6, 12, 24, 40];

/// The assumed cost of a guessed token until one is measured, relative to a token in a step without
/// guesses.
const EXPECTED: f64 = 0.4;

/// The time of a guessed token in a class that was not measured, as a part of its time in the next
/// smaller class that was. The cost of a step with any guesses is divided among more of them.
const OF_SMALLER: f64 = 0.7;

/// The weight of the latest step in the average.
const WEIGHT: f64 = 0.25;

/// A step that took longer than this many times the average counts as that, because the machine was
/// busy with something else.
const MOST_TIMES: f64 = 2.0;

/// The number of steps after which times of steps with guesses are forgotten, if there were none
/// since. Machines change.
const KEPT: u32 = 512;

/// Guesses are verified if they make answers faster by this factor.
const GAIN: f64 = 1.05;

/// The times of steps, by the number of answers.
pub(super) struct Costs(Vec<Times>);

#[derive(Clone, Default)]
struct Times {
    classes: [Option<Time>; CLASSES.len()],
    /// The number of steps without guesses since the last one with guesses.
    plain_steps: u32,
    #[cfg(test)]
    with_guesses: usize,
}

/// The average time of the steps of a class.
#[derive(Clone, Copy)]
struct Time {
    seconds: f64,
    guessed: f64,
}

impl Costs {
    pub(super) fn new(parallel: usize) -> Self {
        Self(vec![Times::default(); parallel.clamp(1, MOST_ANSWERS)])
    }

    /// Records a step.
    pub(super) fn record(&mut self, answers: usize, guessed: usize, time: Duration) {
        let at = self.index(answers);
        let times = &mut self.0[at];
        if guessed > 0 {
            times.plain_steps = 0;
            #[cfg(test)]
            {
                times.with_guesses += 1;
            }
        } else {
            times.plain_steps += 1;
            if times.plain_steps == KEPT {
                times.classes[1..].fill(None);
            }
        }
        let class = &mut times.classes[class_of(guessed)];
        let (seconds, guessed) = (time.as_secs_f64(), as_f64(guessed));
        let Some(known) = class else {
            *class = Some(Time { seconds, guessed });
            return;
        };
        let seconds = seconds.min(known.seconds * MOST_TIMES);
        known.seconds += WEIGHT * (seconds - known.seconds);
        known.guessed += WEIGHT * (guessed - known.guessed);
    }

    /// The expected number of tokens per second of a step with `guessed` tokens, of which `right`
    /// are right. Steps with guesses must be clearly faster, so their rate is lowered. Returns 0 if
    /// steps without guesses have not been measured yet.
    pub(super) fn rate(&self, answers: usize, guessed: usize, right: f64) -> f64 {
        let times = &self.0[self.index(answers)];
        let Some(plain) = times.classes[0] else {
            return 0.0;
        };
        let plain = plain.seconds.max(f64::MIN_POSITIVE);
        let answers = as_f64(answers.max(1));
        if guessed == 0 {
            return answers / plain;
        }
        let of_token = times.of_token(guessed, plain, plain / answers * EXPECTED);
        (answers + right) / (plain + as_f64(guessed) * of_token) / GAIN
    }

    fn index(&self, answers: usize) -> usize {
        answers.saturating_sub(1).min(self.0.len() - 1)
    }

    #[cfg(test)]
    pub(super) fn steps_with_guesses(&self) -> usize {
        self.0.iter().map(|times| times.with_guesses).sum()
    }
}

impl Times {
    /// The time of a guessed token in a step with `guessed` guessed tokens.
    fn of_token(&self, guessed: usize, plain: f64, expected: f64) -> f64 {
        let class = class_of(guessed);
        let measured = self.classes[..=class].iter().enumerate().skip(1).rev();
        let measured = measured.filter_map(|(at, time)| Some((at, time.as_ref()?)));
        let Some((at, time)) = measured.into_iter().next() else {
            return expected;
        };
        let of_token = ((time.seconds - plain) / time.guessed).max(0.0);
        if at == class {
            of_token
        } else {
            of_token * OF_SMALLER
        }
    }
}

fn class_of(guessed: usize) -> usize {
    CLASSES
        .iter()
        .rposition(|least| guessed >= *least)
        .unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "tokens of one step")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_times_of_the_class() {
        let mut costs = Costs::new(4);
        assert!(costs.rate(1, 8, 8.0).abs() < f64::EPSILON);
        costs.record(1, 0, Duration::from_millis(10));
        assert!((costs.rate(1, 0, 0.0) - 100.0).abs() < 1e-6);
        // Eight tokens at 0.4 of the time of a token, all of them right.
        assert!((costs.rate(1, 8, 8.0) - 9.0 / 0.042 / GAIN).abs() < 1e-6);
        costs.record(1, 8, Duration::from_millis(90));
        assert!((costs.rate(1, 8, 8.0) - 9.0 / 0.090 / GAIN).abs() < 1e-6);
        // The times of other numbers of answers are kept separately.
        assert!(costs.rate(2, 0, 0.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_disturbed_step_counts_little_and_old_times_are_forgotten() {
        let mut costs = Costs::new(1);
        costs.record(1, 0, Duration::from_millis(10));
        costs.record(1, 0, Duration::from_secs(10));
        assert!(costs.rate(1, 0, 0.0) > 75.0);
        costs.record(1, 4, Duration::from_secs(10));
        assert!(costs.rate(1, 4, 4.0) < 1.0);
        for _ in 0..KEPT {
            costs.record(1, 0, Duration::from_millis(10));
        }
        assert!(costs.rate(1, 4, 4.0) > 100.0);
    }
}
