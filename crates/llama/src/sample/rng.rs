//! A generator of random numbers that are the same on every machine for the same seed.
//!
//! The algorithm is `SplitMix64` (Steele, Lea, Flood 2014): one addition and three mixes. It never
//! changes; a library's generator may change with a version, and with it the text for a seed. Not
//! for secrets.

use std::hash::{BuildHasher, RandomState};

pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 up to but not including 1, with 53 random bits.
    pub(super) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an f64 holds 53 bits exactly")]
        let bits = (self.next() >> 11) as f64;
        bits * 2.0_f64.powi(-53)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A seed for a request without one, from the standard library's randomness.
pub(crate) fn any_seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_the_published_one() {
        let mut rng = Rng::new(1_234_567);
        assert_eq!(
            [rng.next(), rng.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
