//! [`Bucket`]: a token bucket whose reservations are settled later. Pure: the caller brings the
//! time.
//!
//! A bucket of a limit of N in a period holds N, and is refilled evenly over the period. It is kept
//! as the time at which it will be full again (the generic cell rate algorithm), so an empty bucket
//! and one that nobody uses need no work.
//!
//! A reservation that a request did not use up is given back when the request ends. If the bucket was
//! full in between, part of it has been refilled already, and giving it back would allow more than the
//! limit. `settled` bounds it: the same bucket without reservations, charged with the real usage when
//! it becomes known. A later charge never leaves more in a bucket. See
//! `reservations_never_allow_more_than_their_use_would`.

use std::time::Duration;

/// An amount per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) limit: u64,
    pub(crate) period: Duration,
}

impl Rate {
    pub(crate) const fn a_minute(limit: u64) -> Self {
        Self {
            limit,
            period: Duration::from_mins(1),
        }
    }

    pub(crate) const fn a_day(limit: u64) -> Self {
        Self {
            limit,
            period: Duration::from_hours(24),
        }
    }

    fn period(self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time in which `amount` is refilled, in nanoseconds.
    fn cost(self, amount: u64) -> u64 {
        let cost = u128::from(amount) * u128::from(self.period());
        u64::try_from(cost.div_ceil(u128::from(self.limit.max(1)))).unwrap_or(u64::MAX)
    }
}

/// A token bucket. All times are nanoseconds of a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When the bucket is full again, if every reservation is used.
    full: u64,
    /// When the bucket would be full again if only the amounts that were really used counted, each
    /// from the time when it was known.
    settled: u64,
    /// The reservations that are not settled.
    reserved: u64,
}

/// Why an amount cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// The amount can be taken after this time.
    For(Duration),
    /// The amount is larger than the bucket.
    Always,
}

impl Bucket {
    /// Checks whether an amount can be taken now.
    pub(crate) fn check(&self, rate: Rate, amount: u64, now: u64) -> Result<(), Short> {
        if amount > rate.limit {
            return Err(Short::Always);
        }
        let full = self.full.max(now).saturating_add(rate.cost(amount));
        match full.saturating_sub(now).checked_sub(rate.period()) {
            None | Some(0) => Ok(()),
            Some(short) => Err(Short::For(Duration::from_nanos(short))),
        }
    }

    /// Takes an amount that needs no settlement, whether it is there or not.
    pub(crate) fn take(&mut self, rate: Rate, amount: u64, now: u64) {
        self.reserve(rate, amount, now);
        self.settle(rate, amount, amount, now);
    }

    /// Reserves an amount, even if the bucket does not have it.
    pub(crate) fn reserve(&mut self, rate: Rate, amount: u64, now: u64) {
        self.full = self.full.max(now).saturating_add(rate.cost(amount));
        self.reserved = self.reserved.saturating_add(amount);
    }

    /// Settles a reservation with the real usage, which may be larger.
    pub(crate) fn settle(&mut self, rate: Rate, reserved: u64, used: u64, now: u64) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.settled = self.settled.max(now).saturating_add(rate.cost(used));
        if used > reserved {
            self.full = self
                .full
                .max(now)
                .saturating_add(rate.cost(used - reserved));
            return;
        }
        let given_back = self.full.saturating_sub(rate.cost(reserved - used));
        let at_least = self.settled.saturating_add(rate.cost(self.reserved));
        self.full = given_back.max(at_least.min(self.full));
    }

    /// Makes the bucket need at least the time `short` until it is full.
    pub(crate) fn lacks(&mut self, short: Duration, now: u64) {
        let short = u64::try_from(short.as_nanos()).unwrap_or(u64::MAX);
        self.full = self.full.max(now.saturating_add(short));
    }

    /// The amount that can be taken now.
    pub(crate) fn remaining(&self, rate: Rate, now: u64) -> u64 {
        let there = rate.period().saturating_sub(self.full.saturating_sub(now));
        let there = u128::from(there) * u128::from(rate.limit) / u128::from(rate.period().max(1));
        u64::try_from(there).unwrap_or(u64::MAX)
    }

    /// Returns the time until the bucket is full.
    pub(crate) fn reset(&self, now: u64) -> Duration {
        Duration::from_nanos(self.full.saturating_sub(now))
    }

    /// Returns whether the bucket is full and has no reservations, so that it can be forgotten.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.reserved == 0 && self.full <= now && self.settled <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const RATE: Rate = Rate::a_minute(60);

    #[test]
    fn a_bucket_allows_its_limit_at_once_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let now = 1000 * SECOND;
        for left in (0..60).rev() {
            assert_eq!(bucket.check(RATE, 1, now), Ok(()));
            bucket.take(RATE, 1, now);
            assert_eq!(bucket.remaining(RATE, now), left);
        }
        let short = bucket.check(RATE, 1, now);
        assert_eq!(short, Err(Short::For(Duration::from_secs(1))));
        assert_eq!(bucket.reset(now), Duration::from_mins(1));
        assert_eq!(bucket.check(RATE, 1, now + SECOND), Ok(()));
        let short = bucket.check(RATE, 5, now + SECOND);
        assert_eq!(short, Err(Short::For(Duration::from_secs(4))));
        assert_eq!(bucket.check(RATE, 61, now), Err(Short::Always));
        assert!(!bucket.is_idle(now + 59 * SECOND) && bucket.is_idle(now + 60 * SECOND));
    }

    #[test]
    fn what_was_not_used_is_given_back_and_what_was_used_beyond_is_owed() {
        let mut bucket = Bucket::default();
        let now = 1000 * SECOND;
        bucket.reserve(RATE, 50, now);
        bucket.settle(RATE, 50, 20, now + SECOND);
        // Not 41: an amount that was used counts from now on.
        assert_eq!(bucket.remaining(RATE, now + SECOND), 40);
        bucket.reserve(RATE, 10, now + SECOND);
        bucket.settle(RATE, 10, 100, now + SECOND);
        assert_eq!(bucket.remaining(RATE, now + SECOND), 0);
        let short = bucket.check(RATE, 1, now + SECOND);
        assert_eq!(short, Err(Short::For(Duration::from_secs(61))));
    }

    #[test]
    fn what_was_refilled_meanwhile_is_not_given_back_again() {
        let mut bucket = Bucket::default();
        let now = 1000 * SECOND;
        bucket.reserve(RATE, 60, now);
        // The bucket is full again.
        let later = now + 60 * SECOND;
        bucket.reserve(RATE, 60, later);
        bucket.settle(RATE, 60, 1, later);
        assert_eq!(bucket.remaining(RATE, later), 0);
    }

    /// A bucket without reservations: each use is charged with the real amount from the start.
    fn after(uses: &[(u64, u64)], now: u64) -> u64 {
        let mut uses = uses.to_vec();
        uses.sort_unstable();
        let full = uses.iter().fold(0, |full: u64, (at, amount)| {
            full.max(*at) + RATE.cost(*amount)
        });
        full.saturating_sub(now)
    }

    proptest! {
        /// After every step, the bucket has at most what it would have if each request had taken
        /// what it really used when it began (and what it reserved, while it runs).
        #[test]
        fn reservations_never_allow_more_than_their_use_would(
            steps in proptest::collection::vec((0_u64..40, 0_u64..60, 0_u64..80, any::<bool>()), 1..40)
        ) {
            let mut bucket = Bucket::default();
            let mut now = 1000 * SECOND;
            // Of each request: its time, the amount that counts now, the reserved amount, and
            // whether it still runs.
            let mut requests: Vec<(u64, u64, u64, bool)> = Vec::new();
            for (seconds, amount, used, settles) in steps {
                now += seconds * SECOND;
                let running = requests.iter_mut().find(|request| request.3);
                match running {
                    Some(request) if settles => {
                        bucket.settle(RATE, request.2, used, now);
                        // Usage beyond the reservation is charged when it is known.
                        let (began, reserved) = (request.0, request.2);
                        *request = (began, used.min(reserved), reserved, false);
                        if used > reserved {
                            requests.push((now, used - reserved, 0, false));
                        }
                    }
                    _ if bucket.check(RATE, amount, now).is_ok() => {
                        bucket.reserve(RATE, amount, now);
                        requests.push((now, amount, amount, true));
                    }
                    _ => {}
                }
                let uses: Vec<_> = requests.iter().map(|request| (request.0, request.1)).collect();
                let truth = after(&uses, now);
                let kept = u64::try_from(bucket.reset(now).as_nanos()).unwrap();
                prop_assert!(kept >= truth, "{kept} < {truth}: {requests:?}");
            }
        }

        /// While a bucket is never full, everything that was not used comes back.
        #[test]
        fn a_busy_bucket_gives_all_back(
            requests in proptest::collection::vec((0_u64..5, 0_u64..5), 1..40)
        ) {
            let mut bucket = Bucket::default();
            let now = 1000 * SECOND;
            bucket.take(RATE, 30, now);
            let mut used = 30;
            for (more, little) in requests {
                let reserved = more + little;
                bucket.reserve(RATE, reserved, now);
                bucket.settle(RATE, reserved, little, now);
                used += little;
            }
            prop_assert_eq!(bucket.reset(now), Duration::from_secs(used));
        }
    }
}
