//! [`Holder`]: the holder of an API key, and the scopes and limits of the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loggia_api::{ApiError, Caller};
use serde::{Deserialize, Serialize};

use crate::limits::KeyLimits;

/// The scopes of a key: the groups of routes that it gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Models: everything under `/v1` except files.
    Chat,
    /// Files, uploads and vector stores.
    Files,
    /// The routes under `/admin`, which also change and show the keys of others, and `/metrics`.
    Admin,
    /// `/metrics`.
    Metrics,
    /// `service_tier: priority`: requests of this key may run before those of others.
    Priority,
}

/// A set of [`Scope`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// The scopes of a key that names none: chat and files.
    pub const DEFAULT: Self = Self(Scope::Chat.bit() | Scope::Files.bit());

    /// Returns whether the set contains a scope.
    pub fn contain(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Returns the scopes of the set.
    pub fn listed(self) -> Vec<Scope> {
        let all = [
            Scope::Chat,
            Scope::Files,
            Scope::Admin,
            Scope::Metrics,
            Scope::Priority,
        ];
        all.into_iter()
            .filter(|scope| self.contain(*scope))
            .collect()
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Scope {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Returns the word for the scope.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Files => "files",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::Priority => "priority",
        }
    }
}

/// The holder of an API key.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The holder, as the API sees it.
    pub(crate) caller: Caller,
    /// The groups of routes that the key gives access to.
    pub(crate) scopes: Scopes,
    /// How much the key allows. `None`: the limits of keys without limits of their own.
    pub(crate) limits: Option<Arc<KeyLimits>>,
    /// The tokens that are left of the key's budget, if it has one.
    pub(crate) budget: Option<Arc<Budget>>,
    /// When the key expires, in Unix seconds.
    pub(crate) expires: Option<i64>,
}

impl Holder {
    /// Sets the scopes of the key.
    #[must_use]
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.caller.may_have_priority = scopes.contain(Scope::Priority);
        Self { scopes, ..self }
    }

    /// Sets how much the key allows.
    #[must_use]
    pub fn with_limits(self, limits: KeyLimits) -> Self {
        Self {
            limits: Some(Arc::new(limits)),
            ..self
        }
    }
}

impl From<Caller> for Holder {
    fn from(caller: Caller) -> Self {
        Self {
            caller,
            scopes: Scopes::default(),
            limits: None,
            budget: None,
            expires: None,
        }
    }
}

/// The error for a key that lacks a scope.
pub(crate) fn out_of_scope(scope: Scope) -> ApiError {
    let message = format!(
        "You have insufficient permissions for this operation: this API key lacks the scope '{}'. Ask the operator of this server for a key that has it.",
        scope.word()
    );
    ApiError::new(http::StatusCode::FORBIDDEN, message)
        .coded("insufficient_permissions")
        .not_again()
}

/// The tokens that a key may use in its life.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The id of the key.
    pub(crate) id: String,
    tokens: AtomicU64,
    /// The tokens of requests that have ended, on all servers as far as is known.
    used: AtomicU64,
    /// The tokens that running requests of this server may use.
    reserved: AtomicU64,
    /// The used tokens that are not yet written to the store.
    unsaved: AtomicU64,
}

impl Budget {
    pub(crate) fn new(id: &str, tokens: u64, used: u64) -> Self {
        Self {
            id: id.to_owned(),
            tokens: AtomicU64::new(tokens),
            used: AtomicU64::new(used),
            reserved: AtomicU64::new(0),
            unsaved: AtomicU64::new(0),
        }
    }

    /// Sets the daily limit and the usage that the store has.
    pub(crate) fn renew(&self, tokens: u64, used: u64) {
        self.tokens.store(tokens, Ordering::Relaxed);
        self.saved(used);
    }

    /// Reserves tokens. Returns whether there are enough.
    pub(crate) fn reserve(&self, tokens: u64) -> bool {
        let reserved = self.reserved.fetch_add(tokens, Ordering::Relaxed);
        let used = self.used.load(Ordering::Relaxed);
        let wanted = used.saturating_add(reserved).saturating_add(tokens);
        let is_enough = wanted <= self.tokens.load(Ordering::Relaxed);
        if !is_enough {
            self.reserved.fetch_sub(tokens, Ordering::Relaxed);
        }
        is_enough
    }

    /// Ends a reservation of a request that has used this many tokens.
    pub(crate) fn settle(&self, reserved: u64, used: u64) {
        self.reserved.fetch_sub(reserved, Ordering::Relaxed);
        self.used.fetch_add(used, Ordering::Relaxed);
        self.unsaved.fetch_add(used, Ordering::Relaxed);
    }

    /// Takes the tokens that the store does not know yet.
    pub(crate) fn take_unsaved(&self) -> u64 {
        self.unsaved.swap(0, Ordering::Relaxed)
    }

    /// Gives tokens back that could not be stored.
    pub(crate) fn not_saved(&self, tokens: u64) {
        self.unsaved.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Takes over the use that the store knows.
    pub(crate) fn saved(&self, stored: u64) {
        let unsaved = self.unsaved.load(Ordering::Relaxed);
        self.used
            .store(stored.saturating_add(unsaved), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_what_runs_and_what_has_ended() {
        let budget = Budget::new("key_1", 100, 30);
        assert!(budget.reserve(60));
        assert!(!budget.reserve(11) && budget.reserve(10));
        budget.settle(60, 5);
        assert!(budget.reserve(55) && !budget.reserve(1));
        assert_eq!((budget.take_unsaved(), budget.take_unsaved()), (5, 0));
        // Another server has used 20 more.
        budget.saved(55);
        budget.settle(65, 0);
        assert!(!budget.reserve(46) && budget.reserve(45));
        budget.not_saved(7);
        assert_eq!(budget.take_unsaved(), 7);
    }

    #[test]
    fn scopes_are_a_set() {
        let scopes: Scopes = [Scope::Admin, Scope::Chat].into_iter().collect();
        assert_eq!(scopes.listed(), [Scope::Chat, Scope::Admin]);
        assert!(!scopes.contain(Scope::Files));
        assert_eq!(Scopes::default().listed(), [Scope::Chat, Scope::Files]);
    }
}
