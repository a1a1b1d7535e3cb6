//! [`Seconds`]: figures for each of the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use loggia_api::Outcome;
use serde::Serialize;

use super::histogram::Histogram;

/// How many seconds are kept.
pub(super) const KEPT: usize = 600;

/// The number of seconds over which quantiles are computed: those of a second cover the ten seconds
/// that end with it, because few requests end in one second.
const WINDOW: usize = 10;

/// The figures of one second.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    at: i64,
    requests: u32,
    failed: u32,
    abandoned: u32,
    prompt_tokens: u64,
    tokens: u64,
    running: usize,
    first_tokens: Histogram,
    durations: Histogram,
}

/// A request that has ended, for the figures of its second.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedOne {
    pub(super) outcome: Outcome,
    pub(super) prompt_tokens: u64,
    /// The time to the first token of a stream.
    pub(super) first_token: Option<Duration>,
    /// The time of the whole answer, if a client waited for it.
    pub(super) took: Option<Duration>,
}

impl Second {
    fn add(&mut self, request: EndedOne) {
        self.requests += 1;
        self.failed += u32::from(request.outcome == Outcome::Failed);
        self.abandoned += u32::from(request.outcome == Outcome::Abandoned);
        self.prompt_tokens += request.prompt_tokens;
        if let Some(first_token) = request.first_token {
            self.first_tokens.add(first_token);
        }
        if let Some(took) = request.took {
            self.durations.add(took);
        }
    }
}

/// A second as the admin API shows it. Times are in milliseconds: that which half of them stay
/// below, and that which 95 % do.
#[derive(Debug, Serialize)]
pub(super) struct ShownSecond {
    at: i64,
    requests: u32,
    failed: u32,
    abandoned: u32,
    prompt_tokens: u64,
    tokens: u64,
    running: usize,
    first_token_ms: Option<[f64; 2]>,
    duration_ms: Option<[f64; 2]>,
}

/// The figures of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    ended: VecDeque<Second>,
    /// The second that runs.
    now: Second,
    /// The tokens of all answers up to the end of the last second.
    tokens: u64,
}

impl Seconds {
    /// Adds a request to the second that runs.
    pub(super) fn add(&mut self, request: EndedOne) {
        self.now.add(request);
    }

    /// Ends the second that runs. `tokens` are those of all answers since the start, and `running`
    /// the requests that run now.
    pub(super) fn end(&mut self, now: i64, tokens: u64, running: usize) {
        let mut second = std::mem::take(&mut self.now);
        second.at = now;
        second.running = running;
        // An engine may report fewer tokens than it sent pieces.
        second.tokens = tokens.saturating_sub(self.tokens);
        self.tokens = self.tokens.max(tokens);
        if self.ended.len() >= KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back(second);
    }

    /// Returns the seconds after this one.
    pub(super) fn after(&self, after: i64) -> Vec<ShownSecond> {
        let shown = |(at, second): (usize, &Second)| {
            let window = at.saturating_sub(WINDOW - 1)..=at;
            let quantiles = |of: fn(&Second) -> &Histogram| {
                let mut all = Histogram::default();
                for second in self.ended.range(window.clone()) {
                    all.add_all(of(second));
                }
                Some([all.quantile(0.5)?, all.quantile(0.95)?])
            };
            ShownSecond {
                at: second.at,
                requests: second.requests,
                failed: second.failed,
                abandoned: second.abandoned,
                prompt_tokens: second.prompt_tokens,
                tokens: second.tokens,
                running: second.running,
                first_token_ms: quantiles(|second| &second.first_tokens),
                duration_ms: quantiles(|second| &second.durations),
            }
        };
        let seconds = self.ended.iter().enumerate();
        let seconds = seconds.filter(|(_, second)| second.at > after);
        seconds.map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(outcome: Outcome, prompt_tokens: u64, took: Option<Duration>) -> EndedOne {
        EndedOne {
            outcome,
            prompt_tokens,
            first_token: took,
            took,
        }
    }

    #[test]
    fn a_second_has_the_tokens_since_the_one_before_and_never_fewer_than_none() {
        let mut seconds = Seconds::default();
        for (at, tokens) in [(1, 10), (2, 25), (3, 24), (4, 26)] {
            seconds.end(at, tokens, 2);
        }
        let tokens: Vec<u64> = seconds
            .after(0)
            .iter()
            .map(|second| second.tokens)
            .collect();
        assert_eq!(tokens, [10, 15, 0, 1]);
        assert_eq!(seconds.after(3).len(), 1);
    }

    #[test]
    fn the_times_of_a_second_are_those_of_the_last_ten() {
        let mut seconds = Seconds::default();
        let took = Some(Duration::from_millis(100));
        seconds.add(request(Outcome::Complete, 3, took));
        seconds.add(request(Outcome::Failed, 0, None));
        for at in 0..12 {
            seconds.end(at, 0, 0);
        }
        let shown = seconds.after(-1);
        assert_eq!(
            (shown[0].requests, shown[0].failed, shown[0].prompt_tokens),
            (2, 1, 3)
        );
        assert!(shown[0].first_token_ms.is_some() && shown[9].duration_ms.is_some());
        assert!(shown[10].first_token_ms.is_none());
    }

    #[test]
    fn the_seconds_are_limited() {
        let mut seconds = Seconds::default();
        for at in 0..2000 {
            seconds.end(at, 0, 0);
        }
        let kept = seconds.after(-1);
        assert_eq!((kept.len(), kept[0].at), (KEPT, 2000 - 600));
    }
}
