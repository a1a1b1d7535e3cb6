//! [`Breaker`]: whether a node may be used. No I/O; the caller gives the time.

use std::time::{Duration, Instant};

/// How many calls in a row must fail until a node is no longer used. A node that cannot be reached
/// is not used at once.
const FAILURES: u32 = 3;

/// How long a node rests that answers probes but fails calls. Doubles each time, up to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A circuit breaker. Answered and failed calls close or open it. Only a probe leads from open to
/// half open, in which one call tries the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    /// The calls that failed in a row.
    failures: u32,
    /// How often the breaker has opened since a call was answered, not counting the times when the
    /// node could not be reached.
    rests: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// The node is not used until a probe after this time succeeds.
    Open { until: Instant },
    /// A probe succeeded. One call tries the node.
    HalfOpen { tried: bool },
}

/// Whether a node may be used, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The node is used.
    Up,
    /// The node is used for one call.
    OnTrial,
    /// The call that tries the node again has not been answered yet.
    Tried,
    /// The node is not used.
    Down,
}

impl Breaker {
    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Closed => Standing::Up,
            State::HalfOpen { tried: false } => Standing::OnTrial,
            State::HalfOpen { tried: true } => Standing::Tried,
            State::Open { .. } => Standing::Down,
        }
    }

    /// Notes that a call begins.
    pub(super) fn begin(&mut self) {
        if let State::HalfOpen { tried } = &mut self.state {
            *tried = true;
        }
    }

    /// Notes that a call ended without telling anything about the node.
    pub(super) fn abandon(&mut self) {
        if let State::HalfOpen { tried } = &mut self.state {
            *tried = false;
        }
    }

    /// Notes that the node answered a call.
    pub(super) fn answered(&mut self) {
        if !matches!(self.state, State::Open { .. }) {
            *self = Self::default();
        }
    }

    /// Notes that the node failed a call. Returns whether the breaker opened.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => self.failures >= FAILURES,
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if opens {
            let rest = FIRST_REST.saturating_mul(1 << self.rests.min(5));
            self.rests = self.rests.saturating_add(1);
            self.state = State::Open {
                until: now + rest.min(LONGEST_REST),
            };
        }
        opens
    }

    /// Notes that the node cannot be reached. Returns whether the breaker opened.
    pub(super) fn went_away(&mut self, now: Instant) -> bool {
        let opens = !matches!(self.state, State::Open { .. });
        if opens {
            self.state = State::Open { until: now };
        }
        opens
    }

    /// Notes that the node answered a probe.
    pub(super) fn probed(&mut self, now: Instant) {
        if matches!(self.state, State::Open { until } if until <= now) {
            self.state = State::HalfOpen { tried: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_node_that_cannot_be_reached_is_tried_after_the_next_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(breaker.went_away(start));
        assert!(!breaker.went_away(start), "it opens once");
        assert_eq!(breaker.standing(), Standing::Down);
        breaker.probed(start);
        assert_eq!(breaker.standing(), Standing::OnTrial);
        breaker.begin();
        assert_eq!(breaker.standing(), Standing::Tried);
        breaker.answered();
        assert_eq!(breaker.standing(), Standing::Up);
    }

    #[test]
    fn a_node_that_fails_its_calls_rests_longer_each_time() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(now) && !breaker.failed(now));
        assert!(breaker.failed(now));
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            breaker.probed(now + Duration::from_millis(rest * 1000 - 1));
            assert_eq!(breaker.standing(), Standing::Down, "after {rest} s");
            now += Duration::from_secs(rest);
            breaker.probed(now);
            assert_eq!(breaker.standing(), Standing::OnTrial, "after {rest} s");
            breaker.begin();
            assert!(breaker.failed(now));
        }
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.failed(now) && !breaker.failed(now));
            breaker.answered();
        }
        assert_eq!(breaker.standing(), Standing::Up);
    }

    proptest! {
        /// In any sequence of events: only a probe leads out of open, one call at a time tries the
        /// node, and a node that answers is used again.
        #[test]
        fn only_a_probe_leads_out_of_open(steps in prop::collection::vec((0_u8..6, 0_u64..3000), 0..60)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            for (step, later) in steps {
                now += Duration::from_millis(later);
                let before = breaker.standing();
                match step {
                    0 => breaker.begin(),
                    1 => breaker.answered(),
                    2 => { breaker.failed(now); }
                    3 => { breaker.went_away(now); }
                    4 => breaker.abandon(),
                    _ => breaker.probed(now),
                }
                let after = breaker.standing();
                if before == Standing::Down && after != Standing::Down {
                    prop_assert_eq!((step, after), (5, Standing::OnTrial));
                }
                if before == Standing::OnTrial && step == 0 {
                    prop_assert_eq!(after, Standing::Tried);
                }
            }
            now += LONGEST_REST;
            breaker.probed(now);
            breaker.begin();
            breaker.answered();
            prop_assert_eq!(breaker.standing(), Standing::Up);
        }
    }
}
