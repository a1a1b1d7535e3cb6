//! The limits of all callers, in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loggia_api::meter::{Remaining, Window};

use super::bucket::{Bucket, Rate, Short};
use super::{Kind, Ruled};

/// From how many names on those are forgotten that use nothing. Proxies may name any number of
/// users.
const MANY: usize = 10_000;

/// How long a request waits before it tries again to start an answer, if the limit on parallel
/// answers is reached: the end of a running answer cannot be predicted.
const ANSWER: Duration = Duration::from_secs(1);

/// The usage of each name.
#[derive(Debug)]
pub(crate) struct Local {
    names: Mutex<HashMap<Arc<str>, Use>>,
    began: Instant,
}

/// The usage of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    requests: Bucket,
    tokens: Bucket,
    tokens_of_day: Bucket,
    streams: u64,
}

/// A limit that a request would exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) kind: Kind,
    pub(crate) limit: u64,
    pub(crate) short: Short,
    /// The model, if the limit is one of a model.
    pub(crate) model: Option<Arc<str>>,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self {
            names: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Nothing panics while it holds the lock, so the lock is never poisoned.
    fn names(&self) -> MutexGuard<'_, HashMap<Arc<str>, Use>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reserves a request with this number of tokens under all names, or under none.
    pub(crate) fn enter(&self, ruled: &[Ruled], tokens: u64) -> Result<Remaining, Exceeded> {
        self.enter_at(ruled, tokens, self.now())
    }

    fn enter_at(&self, ruled: &[Ruled], tokens: u64, now: u64) -> Result<Remaining, Exceeded> {
        let mut names = self.names();
        let exceeded = ruled.iter().filter_map(|ruled| {
            let used = names.get(&ruled.name).copied().unwrap_or_default();
            used.exceeds(ruled, tokens, now)
        });
        if let Some(exceeded) = exceeded.max_by_key(Exceeded::wait) {
            return Err(exceeded);
        }
        enter_all(&mut names, ruled, tokens, now);
        Ok(remaining(&names, ruled, now))
    }

    /// Counts a request that another server has admitted.
    pub(crate) fn note(&self, ruled: &[Ruled], tokens: u64) {
        let now = self.now();
        enter_all(&mut self.names(), ruled, tokens, now);
    }

    /// Takes over how far the buckets of each name are from full on all servers together. A share
    /// is then as empty as the whole.
    pub(crate) fn observe(&self, ruled: &[Ruled], short: &[[Duration; 3]]) {
        let now = self.now();
        let mut names = self.names();
        for (ruled, short) in ruled.iter().zip(short) {
            let its = names.entry(Arc::clone(&ruled.name)).or_default();
            let [requests, tokens, tokens_of_day] = *short;
            its.requests.lacks(requests, now);
            its.tokens.lacks(tokens, now);
            its.tokens_of_day.lacks(tokens_of_day, now);
        }
    }

    /// How far the buckets of each name are from full.
    pub(crate) fn short(&self) -> Vec<(Arc<str>, [Duration; 3])> {
        let now = self.now();
        let names = self.names();
        let short = names.iter().map(|(name, its)| {
            let buckets = [its.requests, its.tokens, its.tokens_of_day];
            (Arc::clone(name), buckets.map(|bucket| bucket.reset(now)))
        });
        short
            .filter(|(_, short)| short.iter().any(|short| !short.is_zero()))
            .collect()
    }

    /// Settles the reservation of a request that has ended.
    pub(crate) fn settle(&self, ruled: &[Ruled], reserved: u64, used: u64) {
        let now = self.now();
        let mut names = self.names();
        for ruled in ruled {
            if let Some(its) = names.get_mut(&ruled.name) {
                its.settle(ruled, reserved, used, now);
            }
        }
    }

    /// The rest of the limits.
    pub(crate) fn remaining(&self, ruled: &[Ruled]) -> Remaining {
        remaining(&self.names(), ruled, self.now())
    }

    /// The answers at once of each name that has some.
    pub(crate) fn streams(&self) -> Vec<(Arc<str>, u64)> {
        let names = self.names();
        let streams = names
            .iter()
            .map(|(name, used)| (Arc::clone(name), used.streams));
        streams.filter(|(_, streams)| *streams > 0).collect()
    }
}

impl Exceeded {
    fn wait(&self) -> Duration {
        match self.short {
            Short::For(time) => time,
            Short::Always => Duration::MAX,
        }
    }
}

impl Use {
    fn exceeds(&self, ruled: &Ruled, tokens: u64, now: u64) -> Option<Exceeded> {
        let limits = &ruled.limits;
        let exceeded = |kind, limit, short| Exceeded {
            kind,
            limit,
            short,
            model: ruled.model.clone(),
        };
        let bucket = |kind, bucket: &Bucket, rate: Option<Rate>, amount| {
            let rate = rate?;
            let short = bucket.check(rate, amount, now).err()?;
            Some(exceeded(kind, rate.limit, short))
        };
        let streams = limits.streams.filter(|limit| self.streams >= *limit);
        let each = [
            bucket(Kind::Requests, &self.requests, limits.requests(), 1),
            bucket(Kind::Tokens, &self.tokens, limits.tokens(), tokens),
            bucket(
                Kind::TokensOfDay,
                &self.tokens_of_day,
                limits.tokens_of_day(),
                tokens,
            ),
            streams.map(|limit| exceeded(Kind::Streams, limit, Short::For(ANSWER))),
        ];
        each.into_iter().flatten().max_by_key(Exceeded::wait)
    }

    fn enter(&mut self, ruled: &Ruled, tokens: u64, now: u64) {
        self.streams += 1;
        if let Some(rate) = ruled.limits.requests() {
            self.requests.take(rate, 1, now);
        }
        if let Some(rate) = ruled.limits.tokens() {
            self.tokens.reserve(rate, tokens, now);
        }
        if let Some(rate) = ruled.limits.tokens_of_day() {
            self.tokens_of_day.reserve(rate, tokens, now);
        }
    }

    fn settle(&mut self, ruled: &Ruled, reserved: u64, used: u64, now: u64) {
        self.streams = self.streams.saturating_sub(1);
        if let Some(rate) = ruled.limits.tokens() {
            self.tokens.settle(rate, reserved, used, now);
        }
        if let Some(rate) = ruled.limits.tokens_of_day() {
            self.tokens_of_day.settle(rate, reserved, used, now);
        }
    }

    fn is_idle(&self, now: u64) -> bool {
        let mut buckets = [self.requests, self.tokens, self.tokens_of_day].into_iter();
        self.streams == 0 && buckets.all(|bucket| bucket.is_idle(now))
    }
}

/// Counts a request under all of its names.
fn enter_all(names: &mut HashMap<Arc<str>, Use>, ruled: &[Ruled], tokens: u64, now: u64) {
    forget_idle(names, now);
    for ruled in ruled {
        let used = names.entry(Arc::clone(&ruled.name)).or_default();
        used.enter(ruled, tokens, now);
    }
}

/// Forgets names that use nothing, if there are many.
fn forget_idle(names: &mut HashMap<Arc<str>, Use>, now: u64) {
    if names.len() >= MANY && names.len() == names.capacity() {
        names.retain(|_, used| !used.is_idle(now));
    }
}

/// The smallest remainders of all names.
fn remaining(names: &HashMap<Arc<str>, Use>, ruled: &[Ruled], now: u64) -> Remaining {
    let mut remaining = Remaining::default();
    for ruled in ruled {
        let used = names.get(&ruled.name).copied().unwrap_or_default();
        let window = |bucket: Bucket, rate: Rate| Window {
            limit: rate.limit,
            remaining: bucket.remaining(rate, now),
            reset: bucket.reset(now),
        };
        let limits = &ruled.limits;
        let requests = limits.requests().map(|rate| window(used.requests, rate));
        let tokens = limits.tokens().map(|rate| window(used.tokens, rate));
        let of_day = limits
            .tokens_of_day()
            .map(|rate| window(used.tokens_of_day, rate));
        remaining.requests = smaller(remaining.requests, requests);
        remaining.tokens = smaller(smaller(remaining.tokens, tokens), of_day);
    }
    remaining
}

/// The window with the smaller remainder.
pub(super) fn smaller(one: Option<Window>, other: Option<Window>) -> Option<Window> {
    one.into_iter()
        .chain(other)
        .min_by_key(|window| window.remaining)
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    fn ruled(name: &str, limits: Limits) -> Ruled {
        Ruled {
            name: name.into(),
            limits,
            model: None,
        }
    }

    #[test]
    fn a_request_enters_under_all_names_or_under_none() {
        let local = Local::new();
        let key = ruled(
            "alice",
            Limits {
                tokens_per_minute: Some(100),
                ..Limits::default()
            },
        );
        let model = ruled(
            "alice m",
            Limits {
                streams: Some(1),
                ..Limits::default()
            },
        );
        let both = [key, model];
        let entered = local.enter_at(&both, 40, 0).expect("entered");
        let tokens = entered.tokens.expect("tokens");
        assert_eq!((tokens.limit, tokens.remaining), (100, 60));
        let exceeded = local.enter_at(&both, 10, 0).expect_err("one at once");
        assert_eq!((exceeded.kind, exceeded.limit), (Kind::Streams, 1));
        assert_eq!(local.streams().len(), 2);
        local.settle(&both, 40, 5);
        let entered = local.enter_at(&both[..1], 0, local.now()).expect("entered");
        assert!(entered.tokens.expect("tokens").remaining >= 95);
    }

    #[test]
    fn the_longest_wait_is_told() {
        let local = Local::new();
        let limits = Limits {
            requests_per_minute: Some(60),
            tokens_per_day: Some(1000),
            ..Limits::default()
        };
        let all = [ruled("a", limits)];
        for _ in 0..60 {
            local.enter_at(&all, 16, 0).expect("entered");
        }
        let exceeded = local.enter_at(&all, 100, 0).expect_err("too many");
        assert_eq!(exceeded.kind, Kind::TokensOfDay);
        let exceeded = local.enter_at(&all, 1, 0).expect_err("too many");
        assert_eq!(exceeded.kind, Kind::Requests);
        let exceeded = local.enter_at(&all, 1001, 0).expect_err("too large");
        assert_eq!(exceeded.short, Short::Always);
    }

    #[test]
    fn names_that_use_nothing_are_forgotten() {
        let local = Local::new();
        let limits = Limits {
            requests_per_minute: Some(60),
            ..Limits::default()
        };
        for number in 0..3 * MANY {
            let all = [ruled(&number.to_string(), limits)];
            let now = number as u64 * 1_000_000_000;
            local.enter_at(&all, 0, now).expect("entered");
            local.settle(&all, 0, 0);
        }
        assert!(local.names().len() < 2 * MANY, "{}", local.names().len());
    }
}
