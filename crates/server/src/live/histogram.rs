//! [`Histogram`]: how many of some times are how long, in little memory.

use std::time::Duration;

/// The number of buckets.
const BUCKETS: usize = 64;

/// The end of the first bucket, in milliseconds.
const FIRST_END: f64 = 1.0;

/// How much longer the times of a bucket are than those of the one before. The last bucket begins
/// at two minutes.
const STEP: f64 = 1.21;

/// Counts times by their length. A quantile is exact to a tenth of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Histogram([u16; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    pub(super) fn add(&mut self, time: Duration) {
        let milliseconds = time.as_secs_f64() * 1e3;
        let steps = (milliseconds / FIRST_END).max(1.0).ln() / STEP.ln();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and limited by the number of buckets"
        )]
        let bucket = (steps.ceil() as usize).min(BUCKETS - 1);
        self.0[bucket] = self.0[bucket].saturating_add(1);
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Returns the time, in milliseconds, that this part of the times stay below. `None` if there is
    /// no time.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        if all == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let wanted = all as f64 * part;
        let mut before = 0.0;
        let mut end = FIRST_END;
        for count in self.0 {
            before += f64::from(count);
            if before >= wanted && count > 0 {
                // The middle of the bucket, of times that grow by a factor.
                return Some((end / STEP.sqrt() * 10.0).round() / 10.0);
            }
            end *= STEP;
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_exact_to_a_tenth() {
        for milliseconds in [2_u64, 37, 450, 1_999, 61_000] {
            let mut times = Histogram::default();
            times.add(Duration::from_millis(milliseconds));
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let exact = milliseconds as f64;
            let median = times.quantile(0.5).expect("a time");
            assert!((median / exact - 1.0).abs() < 0.11, "{median} of {exact}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn quantiles_of_many_times_are_in_order() {
        let mut times = Histogram::default();
        for milliseconds in 1..=1_000 {
            times.add(Duration::from_millis(milliseconds));
        }
        let at = |part| times.quantile(part).expect("a time");
        assert!((450.0..560.0).contains(&at(0.5)), "{}", at(0.5));
        assert!((850.0..1_060.0).contains(&at(0.95)), "{}", at(0.95));
        let mut longest = Histogram::default();
        longest.add(Duration::from_hours(5));
        longest.add(Duration::ZERO);
        assert!(longest.quantile(0.1) < longest.quantile(0.99));
    }
}
