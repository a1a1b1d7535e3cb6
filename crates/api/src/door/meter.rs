//! [`Meter`]: limits how much callers use. The server implements it; the door asks it before each
//! call to an engine, and reports the tokens that the call used.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::TryFutureExt as _;
use futures_util::future::ready;
use loggia_backend::{CallHead, Work};
use loggia_wire::openai::CompletionUsage;

use crate::{ApiError, Door};

/// Limits how much callers use.
pub trait Meter: Send + Sync {
    /// Decides whether a request may begin, and reserves the requests and tokens that it may use.
    fn enter(&self, entry: &Entry<'_>) -> Entering;
}

/// A request that wants to begin.
pub struct Entry<'a> {
    /// The name of the API key.
    pub caller: Option<&'a str>,
    /// The name of the model that the client sent.
    pub model: &'a str,
    /// Returns the tokens that the request may use. The computation takes time, so this is called
    /// only if there is a limit.
    pub tokens: &'a dyn Fn() -> Tokens,
    /// Receives the rest of the limits, for the headers of the answer.
    pub report: Option<&'a Arc<LimitReport>>,
}

/// The tokens that a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// An estimate of the prompt.
    pub prompt: u64,
    /// The maximum length of the answer that the client sets. `None`: it sets no limit.
    pub answer: Option<u64>,
}

/// The decision about a request.
pub enum Entering {
    /// Nothing limits the request.
    Unlimited,
    /// This server has decided.
    Decided(Result<Arc<dyn Metered>, ApiError>),
    /// Another server will decide.
    Pending(BoxFuture<'static, Result<Option<Arc<dyn Metered>>, ApiError>>),
}

/// A request that has begun. Dropping it gives back the unused part of its reservation.
pub trait Metered: Send + Sync {
    /// Notes that an engine has accepted the request.
    fn accepted(&self);

    /// Notes a piece of the answer. If no usage becomes known, each counts as a token.
    fn piece(&self);

    /// Notes the tokens that were used. The last call counts.
    fn used(&self, usage: &CompletionUsage);
}

/// An extension of a request. The server adds it to send the caller's limits to the client; the
/// meter writes into it how much of each limit is left.
#[derive(Debug, Default)]
pub struct LimitReport(OnceLock<Remaining>);

impl LimitReport {
    /// Sets the rest of the limits. Only the first call counts.
    pub fn set(&self, remaining: Remaining) {
        let _ = self.0.set(remaining);
    }

    /// Returns the rest of the limits, if the request had limits.
    pub fn get(&self) -> Option<&Remaining> {
        self.0.get()
    }
}

/// The rest of the limits of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// The limit of requests.
    pub requests: Option<Window>,
    /// The limit of tokens.
    pub tokens: Option<Window>,
}

/// One limit of a caller, and how much of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The limit.
    pub limit: u64,
    /// The rest of the limit: requests or tokens.
    pub remaining: u64,
    /// The time until all of the limit is available again.
    pub reset: Duration,
}

/// The reservations of a request in the limits of its caller.
#[derive(Clone, Default)]
pub(crate) struct Meters(Option<Arc<dyn Metered>>);

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.0.is_some()).finish()
    }
}

impl Meters {
    pub(crate) fn get(&self) -> Option<&dyn Metered> {
        self.0.as_deref()
    }
}

impl Door {
    /// Reserves the tokens that a call may use. `None`: nothing limits it. Most calls have no limits,
    /// and reserve no memory for the decision.
    pub(crate) fn enter(
        &self,
        head: &CallHead,
        model: &str,
        tokens: &dyn Fn() -> Tokens,
        report: Option<&Arc<LimitReport>>,
    ) -> Option<BoxFuture<'static, Result<Meters, ApiError>>> {
        let entering = self.meter.as_ref()?.enter(&Entry {
            caller: head.caller.as_deref(),
            model,
            tokens,
            report,
        });
        match entering {
            Entering::Unlimited => None,
            Entering::Decided(decided) => {
                let decided = decided.map(|held| Meters(Some(held)));
                Some(Box::pin(ready(decided)))
            }
            Entering::Pending(decision) => Some(Box::pin(decision.map_ok(Meters))),
        }
    }
}

/// Returns the tokens that a call may use.
pub(crate) fn tokens_of(work: &Work) -> Tokens {
    Tokens {
        prompt: work.estimated_prompt_tokens(),
        answer: work.answer_limit(),
    }
}
