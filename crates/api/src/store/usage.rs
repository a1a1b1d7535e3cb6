//! The trait [`UsageStore`] keeps how much each API key has used, by day and model.

use std::ops::AddAssign;

use futures_core::future::BoxFuture;

use super::StoreError;

/// Keeps how much each API key has used.
pub trait UsageStore: Send + Sync {
    /// Adds usage to the stored usage: all of it, or nothing.
    fn add_usage(&self, usage: Vec<Usage>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Returns the usage from this day on, ordered by day, key and model.
    fn usage_since(&self, day: i64) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>>;
}

/// The usage of a model by an API key on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The day, in days since 1970-01-01, UTC.
    pub day: i64,
    /// The name of the API key.
    pub key: String,
    /// The backend's own name of the model.
    pub model: String,
    /// The amount that was used.
    pub amount: UsageAmount,
}

/// An amount of usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageAmount {
    /// The requests that an engine accepted.
    pub requests: u64,
    /// The requests whose answer is not complete: it failed, or the client left.
    pub incomplete: u64,
    /// The tokens of prompts.
    pub prompt_tokens: u64,
    /// The prompt tokens that the engine had in its cache.
    pub cached_tokens: u64,
    /// The tokens of answers.
    pub completion_tokens: u64,
}

impl AddAssign for UsageAmount {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.incomplete += other.incomplete;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}
