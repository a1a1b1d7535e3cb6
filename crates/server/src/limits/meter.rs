//! A request's way through the limits: [`LimitMeter`] lets it in and reserves the tokens that it
//! may use, and [`Metered`](loggia_api::meter::Metered) settles that when the answer ends, however
//! it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use loggia_api::ApiError;
use loggia_api::meter::{Entering, Entry, LimitReport, Meter, Metered, Remaining, Tokens};
use loggia_wire::openai::CompletionUsage;

use super::bucket::Short;
use super::local::{Exceeded, Local};
use super::{Kind, Ruled};
use crate::keys::Allowance;
use crate::keys::holder::Budget;
use crate::{Keys, SharedLimits, panic};

/// The tokens reserved for an answer whose length the client does not limit.
const USUAL_ANSWER: u64 = 1024;

/// The longest wait for which a client should try again by itself.
const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// The meter of the door.
#[derive(Debug)]
pub(crate) struct LimitMeter {
    keys: Keys,
    place: Place,
}

/// Where the limits are kept.
#[derive(Clone, Debug)]
enum Place {
    Local(Arc<Local>),
    Shared(Arc<SharedLimits>),
}

impl LimitMeter {
    pub(crate) fn new(keys: Keys, shared: Option<Arc<SharedLimits>>) -> Self {
        let place = match shared {
            Some(shared) => Place::Shared(shared),
            None => Place::Local(Arc::new(Local::new())),
        };
        Self { keys, place }
    }
}

impl Meter for LimitMeter {
    fn enter(&self, entry: &Entry<'_>) -> Entering {
        let Some(Allowance { limits, budget }) = self.keys.limits_of(entry.caller) else {
            return Entering::Unlimited;
        };
        let ruled = limits.map_or_else(Vec::new, |limits| limits.of(entry.caller, entry.model));
        if ruled.is_empty() && budget.is_none() {
            return Entering::Unlimited;
        }
        let most = ruled.iter().map(|ruled| ruled.limits.most_tokens()).min();
        let most = most.unwrap_or(u64::MAX);
        let counts_tokens = most != u64::MAX || budget.is_some();
        let tokens = counts_tokens.then(entry.tokens);
        let reserved = tokens.map_or(0, |tokens| reservation(tokens, most));
        let budget = match budget
            .map(|budget| Reserved::of(budget, tokens))
            .transpose()
        {
            Ok(budget) => budget,
            Err(NoBudget) => return Entering::Decided(Err(no_budget())),
        };
        let held = Held {
            place: self.place.clone(),
            ruled,
            reserved,
            prompt: tokens.map_or(0, |tokens| tokens.prompt),
            budget,
            is_accepted: AtomicBool::new(false),
            pieces: AtomicU64::new(0),
            used: AtomicU64::new(UNKNOWN),
            entered: Entered::Not,
        };
        let report = entry.report.cloned();
        let shared = match &self.place {
            Place::Shared(shared) if shared.is_connected() && !held.ruled.is_empty() => {
                Arc::clone(shared)
            }
            _ => return Entering::Decided(held.enter_here(report.as_ref())),
        };
        // A task, because a request that is dropped here may have been admitted.
        let entering =
            tokio::spawn(async move { held.enter_there(&shared, report.as_ref()).await });
        Entering::Pending(Box::pin(async move {
            match entering.await {
                Ok(entered) => entered.map(Some),
                Err(_panicked) => Err(panic::error()),
            }
        }))
    }
}

/// The tokens that are reserved for a request. One that sets no limit reserves not more than the
/// limits can ever allow.
fn reservation(tokens: Tokens, most: u64) -> u64 {
    let answer = tokens
        .answer
        .unwrap_or_else(|| USUAL_ANSWER.min(most.saturating_sub(tokens.prompt)));
    tokens.prompt.saturating_add(answer)
}

/// A part of a budget.
struct Reserved {
    budget: Arc<Budget>,
    tokens: u64,
}

/// A budget is used up.
struct NoBudget;

impl Reserved {
    fn of(budget: Arc<Budget>, tokens: Option<Tokens>) -> Result<Self, NoBudget> {
        let tokens = tokens.map_or(0, |tokens| {
            tokens.prompt.saturating_add(tokens.answer.unwrap_or(1))
        });
        if budget.reserve(tokens) {
            Ok(Self { budget, tokens })
        } else {
            Err(NoBudget)
        }
    }
}

/// The usage is not known.
const UNKNOWN: u64 = u64::MAX;

/// The reservations of a request. Dropping this settles them.
struct Held {
    place: Place,
    ruled: Vec<Ruled>,
    reserved: u64,
    prompt: u64,
    budget: Option<Reserved>,
    is_accepted: AtomicBool,
    pieces: AtomicU64,
    used: AtomicU64,
    entered: Entered,
}

/// The counters that have let a request in. They settle its reservation later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    /// No counter.
    Not,
    /// The limits are kept by this server alone.
    Here,
    /// All servers together.
    There,
}

impl Held {
    /// Lets the request in, or refuses it, under the limits of this server.
    fn enter_here(
        mut self,
        report: Option<&Arc<LimitReport>>,
    ) -> Result<Arc<dyn Metered>, ApiError> {
        let entered = match &self.place {
            Place::Local(local) => local.enter(&self.ruled, self.reserved),
            Place::Shared(shared) => shared.enter_alone(&self.ruled, self.reserved),
        };
        if entered.is_ok() {
            self.entered = Entered::Here;
        }
        self.decided(entered, report)
    }

    /// Admits the request, or refuses it, under the limits that servers share. If Valkey is
    /// unreachable, this server decides alone.
    async fn enter_there(
        mut self,
        shared: &SharedLimits,
        report: Option<&Arc<LimitReport>>,
    ) -> Result<Arc<dyn Metered>, ApiError> {
        let Some(entered) = shared.enter(&self.ruled, self.reserved).await else {
            return self.enter_here(report);
        };
        if entered.is_ok() {
            shared.note(&self.ruled, self.reserved);
            self.entered = Entered::There;
        }
        self.decided(entered, report)
    }

    fn decided(
        self,
        entered: Result<Remaining, Exceeded>,
        report: Option<&Arc<LimitReport>>,
    ) -> Result<Arc<dyn Metered>, ApiError> {
        let remaining = match &entered {
            Ok(remaining) => *remaining,
            Err(_) => match &self.place {
                Place::Local(local) => local.remaining(&self.ruled),
                Place::Shared(shared) => shared.remaining(&self.ruled),
            },
        };
        if let Some(report) = report {
            report.set(remaining);
        }
        match entered {
            Ok(_) => Ok(Arc::new(self)),
            Err(exceeded) => Err(refusal(&exceeded, self.reserved)),
        }
    }

    /// The tokens that were used, as far as is known. Without a usage, each piece of the answer
    /// counts as a token; a request that no engine accepted has used none.
    fn used(&self) -> u64 {
        match self.used.load(Ordering::Relaxed) {
            UNKNOWN if self.is_accepted.load(Ordering::Relaxed) => self
                .prompt
                .saturating_add(self.pieces.load(Ordering::Relaxed)),
            UNKNOWN => 0,
            used => used,
        }
    }
}

impl Metered for Held {
    fn accepted(&self) {
        self.is_accepted.store(true, Ordering::Relaxed);
    }

    fn piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    fn used(&self, usage: &CompletionUsage) {
        let used = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        self.used.store(used, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let used = Self::used(self);
        if let Some(Reserved { budget, tokens }) = &self.budget {
            budget.settle(*tokens, used);
        }
        let (ruled, reserved) = (&self.ruled, self.reserved);
        match (&self.place, self.entered) {
            (_, Entered::Not) => {}
            (Place::Local(local), _) => local.settle(ruled, reserved, used),
            (Place::Shared(shared), entered) => {
                shared.settle(ruled, reserved, used, entered == Entered::Here);
            }
        }
    }
}

/// The error for a request beyond a limit, in OpenAI's words.
fn refusal(exceeded: &Exceeded, tokens: u64) -> ApiError {
    let Exceeded {
        kind, limit, short, ..
    } = exceeded;
    let whose = match &exceeded.model {
        Some(model) => format!("model '{model}'"),
        None => "this API key".to_owned(),
    };
    let what = match kind {
        Kind::Requests => "requests per minute",
        Kind::Tokens => "tokens per minute",
        Kind::TokensOfDay => "tokens per day",
        Kind::Streams => "answers at once",
    };
    let message = match short {
        Short::For(time) => format!(
            "Rate limit reached for {whose} on {what}: Limit {limit}. Please try again in {}s.",
            time.as_millis().div_ceil(1000)
        ),
        Short::Always => format!(
            "Request too large for {whose} on {what}: Limit {limit}, Requested {tokens}. Shorten the prompt, or ask for fewer tokens."
        ),
    };
    let mut error =
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).coded("rate_limit_exceeded");
    match short {
        Short::For(time) => {
            error.retry_after = Some(*time);
            error.should_retry = (*time > LONGEST_WAIT).then_some(false);
        }
        Short::Always => {
            error.retry_after = None;
            error.should_retry = Some(false);
        }
    }
    error
}

/// The error for a key whose budget is used up.
fn no_budget() -> ApiError {
    let message =
        "You exceeded the budget of this API key. Ask the operator of this server for more tokens.";
    let mut error =
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).coded("insufficient_quota");
    "insufficient_quota".clone_into(&mut error.error.kind);
    error.retry_after = None;
    error.not_again()
}

#[cfg(test)]
mod tests {
    use loggia_api::Caller;

    use super::*;
    use crate::keys::holder::Holder;
    use crate::keys::{KeyDigest, KeyRules};
    use crate::limits::KeyLimits;

    fn meter(limits: KeyLimits, budget: Option<u64>) -> LimitMeter {
        let caller = Caller {
            name: "alice".into(),
            strictness: None,
            models: None,
            may_delete_models: false,
            may_have_priority: false,
        };
        let holder = Holder {
            limits: Some(Arc::new(limits)),
            budget: budget.map(|tokens| Arc::new(Budget::new("key_1", tokens, 0))),
            ..caller.into()
        };
        let keys = vec![(KeyDigest::of("key"), holder)];
        let keys = Keys::of(KeyRules {
            keys,
            ..KeyRules::default()
        });
        LimitMeter::new(keys, None)
    }

    fn enter(
        meter: &LimitMeter,
        prompt: u64,
        answer: Option<u64>,
    ) -> Result<(Arc<dyn Metered>, Remaining), ApiError> {
        let report = Arc::default();
        let entering = meter.enter(&Entry {
            caller: Some("alice"),
            model: "m",
            tokens: &|| Tokens { prompt, answer },
            report: Some(&report),
        });
        let Entering::Decided(decided) = entering else {
            panic!("no limits");
        };
        let remaining = report.get().copied().unwrap_or_default();
        decided.map(|held| (held, remaining))
    }

    fn tokens(limit: u64) -> KeyLimits {
        KeyLimits {
            tokens_per_day: Some(limit),
            ..KeyLimits::default()
        }
    }

    /// The rest of the limit after a request was dropped.
    fn left(meter: &LimitMeter) -> u64 {
        let (_held, remaining) = enter(meter, 0, Some(0)).expect("entered");
        remaining.tokens.expect("a limit of tokens").remaining
    }

    #[test]
    fn a_request_is_settled_with_what_it_used_however_it_ends() {
        for (what, end, used) in [
            (
                "complete",
                Box::new(|held: &dyn Metered| {
                    held.accepted();
                    held.piece();
                    held.used(&CompletionUsage::new(7, 5));
                }) as Box<dyn Fn(&dyn Metered)>,
                12,
            ),
            ("refused by the engine", Box::new(|_| {}), 0),
            (
                "left in the middle",
                Box::new(|held| {
                    held.accepted();
                    (0..3).for_each(|_| held.piece());
                }),
                10 + 3,
            ),
            (
                "beyond its reservation",
                Box::new(|held| held.used(&CompletionUsage::new(100, 50))),
                150,
            ),
        ] {
            let meter = meter(tokens(1000), None);
            let (held, remaining) = enter(&meter, 10, Some(20)).expect(what);
            assert_eq!(remaining.tokens.expect("tokens").remaining, 970, "{what}");
            end(&*held);
            drop(held);
            assert_eq!(left(&meter), 1000 - used, "{what}");
        }
    }

    #[test]
    fn a_panic_settles_too() {
        let meter = meter(tokens(1000), None);
        let (held, _) = enter(&meter, 10, Some(20)).expect("entered");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            held.accepted();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        assert_eq!(left(&meter), 990);
    }

    #[test]
    fn an_answer_without_a_limit_reserves_a_usual_one_and_never_too_much() {
        let meter = meter(tokens(100), None);
        let (held, remaining) = enter(&meter, 30, None).expect("entered");
        assert_eq!(remaining.tokens.expect("tokens").remaining, 0);
        drop(held);
        assert_eq!(left(&meter), 100);
        let error = enter(&meter, 101, None).err().expect("too large");
        assert_eq!(error.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((error.retry_after, error.should_retry), (None, Some(false)));
        assert!(error.error.message.contains("Limit 100, Requested 101"));
    }

    #[test]
    fn errors_tell_when_to_try_again() {
        let limits = KeyLimits {
            requests_per_minute: Some(1),
            ..KeyLimits::default()
        };
        let meter = meter(limits, None);
        drop(enter(&meter, 1, None).expect("entered"));
        let error = enter(&meter, 1, None).err().expect("too many");
        assert_eq!(error.error.code.as_deref(), Some("rate_limit_exceeded"));
        let wait = error.retry_after.expect("a time");
        assert!(wait > Duration::from_secs(55) && wait <= Duration::from_mins(1));
        assert!(
            error
                .error
                .message
                .contains("requests per minute: Limit 1. Please try again in 60s."),
            "{}",
            error.error.message
        );
    }

    #[test]
    fn a_budget_ends_once_and_for_all() {
        let meter = meter(KeyLimits::default(), Some(100));
        let (held, _) = enter(&meter, 40, Some(40)).expect("entered");
        let error = enter(&meter, 21, None).err().expect("too much");
        assert_eq!(error.error.code.as_deref(), Some("insufficient_quota"));
        held.used(&CompletionUsage::new(40, 59));
        drop(held);
        assert!(enter(&meter, 0, Some(1)).is_ok());
        assert!(enter(&meter, 0, Some(2)).is_err());
    }
}
