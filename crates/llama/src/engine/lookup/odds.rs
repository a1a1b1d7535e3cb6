//! How often guesses are right, by the number of tokens that they have in common with the end of
//! the text. Pure.

/// The minimum numbers of tokens in common of each class.
const CLASSES: [usize; 9] = [1, 2, 3, 4, 5, 7, 10, 16, 32];

/// How often guesses of each class are right in texts that are not known yet.
const EXPECTED: [f64; 9] = [0.05, 0.2, 0.4, 0.5, 0.6, 0.75, 0.85, 0.93, 0.97];

/// The weight of the average of all requests, as a number of guesses of the request itself.
const WEIGHT_OF_ALL: f64 = 4.0;

/// How much an older guess counts in comparison with the next one, for one request and for all.
const FADE: f64 = 0.95;

/// The number of guesses that the expectation counts as.
const WEIGHT_OF_EXPECTED: f64 = 8.0;

/// The guesses of one request, or of all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds([Class; CLASSES.len()]);

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    made: f64,
    right: f64,
}

impl Odds {
    /// The success rates that are assumed before any guess.
    pub(super) fn expected() -> Self {
        Self(EXPECTED.map(|chance| Class {
            made: WEIGHT_OF_EXPECTED,
            right: WEIGHT_OF_EXPECTED * chance,
        }))
    }

    /// Records a guess with `matched` tokens in common.
    pub(super) fn record(&mut self, matched: usize, is_right: bool) {
        let class = &mut self.0[class_of(matched)];
        class.made = class.made * FADE + 1.0;
        class.right = class.right * FADE + f64::from(u8::from(is_right));
    }

    /// The chance that a guess of this request is right. `all` are the guesses of all requests.
    pub(super) fn chance(&self, matched: usize, all: &Self) -> f64 {
        let (own, all) = (self.0[class_of(matched)], all.0[class_of(matched)]);
        let of_all = all.right / all.made.max(1.0);
        (own.right + WEIGHT_OF_ALL * of_all) / (own.made + WEIGHT_OF_ALL)
    }
}

fn class_of(matched: usize) -> usize {
    CLASSES
        .iter()
        .rposition(|least| matched >= *least)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_odds_of_all_until_its_own_are_known() {
        let (mut own, mut all) = (Odds::default(), Odds::expected());
        assert!((own.chance(3, &all) - 0.4).abs() < 1e-9);
        assert!(own.chance(40, &all) > own.chance(5, &all));
        for _ in 0..40 {
            own.record(3, false);
            all.record(3, false);
        }
        assert!(own.chance(3, &all) < 0.02);
        // Another request uses the same statistics for this class, and no others.
        assert!(Odds::default().chance(3, &all) < 0.1);
        assert!((own.chance(4, &all) - 0.5).abs() < 1e-9);
        for _ in 0..40 {
            own.record(3, true);
        }
        assert!(own.chance(3, &all) > 0.65);
    }
}
