//! API keys: which are valid, and who their holders are. The API decides what a caller may do.
//!
//! Keys come from the configuration ([`KeyRules`]) and, while the server runs, from a store
//! (`live.rs`). They are not stored, only their SHA-256 digests, which are compared in constant
//! time. `secret.rs` creates keys, `holder.rs` has what a key allows, `trusted.rs` the users that a
//! proxy names, `admin.rs` the routes that change keys.

pub(crate) mod admin;
mod digest;
pub(crate) mod holder;
mod live;
mod secret;
pub(crate) mod trusted;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request};
use loggia_api::ApiError;
use subtle::ConditionallySelectable as _;
use tower::{Layer, Service};

use crate::limits::KeyLimits;
use holder::{Budget, Holder, Scopes};
use live::Table;
use trusted::{Peer, TrustedHeader};

pub use digest::KeyDigest;
pub use secret::{KeySettings, NewKey, is_key_name, new_secret};

/// The header with the key in Anthropic's API.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The settings of API keys.
#[derive(Clone, Debug, Default)]
pub struct KeyRules {
    /// The keys of the configuration.
    pub keys: Vec<(KeyDigest, Holder)>,
    /// Whether requests need a key. `None`: if there is a key, or a trusted header.
    pub required: Option<bool>,
    /// The limits of keys without limits of their own, and those of all requests without a key
    /// together.
    pub limits: Option<KeyLimits>,
    /// The header by which a proxy names users.
    pub trusted: Option<TrustedHeader>,
}

/// How much a caller may use.
pub(crate) struct Allowance {
    pub(crate) limits: Option<Arc<KeyLimits>>,
    pub(crate) budget: Option<Arc<Budget>>,
}

/// The API keys. Without any, no key is required, unless the rules say so. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Changed by [`Keys::update`] only.
    live: RwLock<Live>,
    /// Whether a request needs a key. This and the following tell what `live` implies, without a
    /// lock.
    are_required: AtomicBool,
    /// Whether a request can have a holder at all.
    knows_holders: AtomicBool,
    /// Whether a request can have limits at all.
    has_limits: AtomicBool,
}

/// The keys as they are now. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Live {
    rules: Arc<Rules>,
    table: Arc<Table>,
}

/// The rules, with holders that requests share.
#[derive(Debug, Default)]
struct Rules {
    keys: Vec<(KeyDigest, Arc<Holder>)>,
    required: Option<bool>,
    limits: Option<Arc<KeyLimits>>,
    trusted: Option<TrustedHeader>,
}

impl From<KeyRules> for Rules {
    fn from(rules: KeyRules) -> Self {
        let keys = rules.keys.into_iter();
        Self {
            keys: keys.map(|(key, holder)| (key, Arc::new(holder))).collect(),
            required: rules.required,
            limits: rules.limits.map(Arc::new),
            trusted: rules.trusted,
        }
    }
}

impl Keys {
    /// Accepts these keys, each for its holder.
    pub fn new<H: Into<Holder>>(keys: impl IntoIterator<Item = (KeyDigest, H)>) -> Self {
        let keys = keys.into_iter();
        Self::of(KeyRules {
            keys: keys.map(|(key, holder)| (key, holder.into())).collect(),
            ..KeyRules::default()
        })
    }

    /// Accepts the keys of these rules.
    pub fn of(rules: KeyRules) -> Self {
        let keys = Self::default();
        keys.change(rules);
        keys
    }

    /// Replaces the rules, for requests that begin from now on. Keys of a store stay.
    pub fn change(&self, rules: KeyRules) {
        let rules = Arc::new(Rules::from(rules));
        self.update(|live| live.rules = rules);
    }

    /// Whether a request needs a key.
    pub fn are_required(&self) -> bool {
        self.0.are_required.load(Ordering::Relaxed)
    }

    /// Whether a request would need a key under these rules.
    pub fn would_be_required(&self, rules: &KeyRules) -> bool {
        let has_any =
            !rules.keys.is_empty() || rules.trusted.is_some() || self.live().table.has_any;
        rules.required.unwrap_or(has_any)
    }

    /// Whether there is a key: in the configuration, or in the store that was read, revoked ones
    /// included.
    pub fn have_any(&self) -> bool {
        let live = self.live();
        !live.rules.keys.is_empty() || live.table.has_any
    }

    /// Whether a key of the configuration has this name.
    pub(crate) fn is_configured(&self, name: &str) -> bool {
        let rules = self.live().rules;
        let mut configured = rules.keys.iter();
        configured.any(|(_, holder)| &*holder.caller.name == name)
    }

    /// The names of the keys of the configuration.
    pub(crate) fn configured_names(&self) -> Vec<Arc<str>> {
        let rules = self.live().rules;
        let names = rules.keys.iter().map(|(_, holder)| &holder.caller.name);
        names.cloned().collect()
    }

    /// The holder of the key with this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Holder>> {
        let Live { rules, table } = self.live();
        let mut configured = rules.keys.iter().map(|(_, holder)| holder);
        if let Some(holder) = configured.find(|holder| &*holder.caller.name == name) {
            return Some(Arc::clone(holder));
        }
        table.named(name).cloned()
    }

    /// Whether a caller that had a valid key still has one.
    pub(crate) fn is_valid(&self, name: &str) -> bool {
        trusted::is_user(name) || self.named(name).is_some()
    }

    /// The limits and the budget of a caller, or of all requests without a key.
    pub(crate) fn limits_of(&self, caller: Option<&str>) -> Option<Allowance> {
        if !self.0.has_limits.load(Ordering::Relaxed) {
            return None;
        }
        let holder = caller.and_then(|name| self.named(name));
        let (limits, budget) = holder.map_or((None, None), |holder| {
            (holder.limits.clone(), holder.budget.clone())
        });
        let limits = limits.or_else(|| self.live().rules.limits.clone());
        (limits.is_some() || budget.is_some()).then_some(Allowance { limits, budget })
    }

    /// Whether a request can have limits at all.
    pub(crate) fn have_limits(&self) -> bool {
        self.0.has_limits.load(Ordering::Relaxed)
    }

    /// The holder of a request; `None` without a valid key.
    fn holder(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Option<Arc<Holder>> {
        let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
        let Live { rules, table } = &*live;
        let mut keys = keys(headers);
        let holder = keys.find_map(|key| table.holder(key).or_else(|| rules.holder(key)));
        if let Some(holder) = holder {
            return Some(Arc::clone(holder));
        }
        rules.trusted.as_ref()?.user(headers, peer)
    }

    fn live(&self) -> Live {
        let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// Changes the rules or the table. The other one stays as it is at this moment, and what they
    /// imply together changes with them.
    fn update(&self, change: impl FnOnce(&mut Live)) {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut live);
        let Live { rules, table } = &*live;
        let knows = table.has_any || !rules.keys.is_empty() || rules.trusted.is_some();
        let mut holders = rules.keys.iter().map(|(_, holder)| holder);
        let has_limits =
            table.has_limits || rules.limits.is_some() || holders.any(|one| one.limits.is_some());
        let are_required = rules.required.unwrap_or(knows);
        self.0.are_required.store(are_required, Ordering::Relaxed);
        self.0.knows_holders.store(knows, Ordering::Relaxed);
        self.0.has_limits.store(has_limits, Ordering::Relaxed);
    }
}

impl Rules {
    /// Compares a key with every configured one, to the last byte, whichever matches.
    fn holder(&self, key: &[u8]) -> Option<&Arc<Holder>> {
        if self.keys.is_empty() {
            return None;
        }
        let theirs = KeyDigest::of(key);
        let mut place = u32::MAX;
        for (at, (digest, _)) in (0..u32::MAX).zip(self.keys.iter()) {
            place.conditional_assign(&at, digest.same(&theirs));
        }
        self.keys.get(place as usize).map(|(_, holder)| holder)
    }
}

/// The error for a request without a valid key.
pub(crate) fn refusal(headers: &HeaderMap) -> ApiError {
    if keys(headers).next().is_some() {
        ApiError::wrong_key()
    } else {
        ApiError::no_key()
    }
}

/// The keys that a request has: after `Bearer`, and in the header that clients of Anthropic's API
/// use. Claude Code may send both.
fn keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let own = headers
        .get(X_API_KEY)
        .map(|key| key.as_bytes().trim_ascii());
    let own = own.filter(|key| !key.is_empty());
    bearer(headers).into_iter().chain(own)
}

/// The key after `Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

/// Adds the [`Caller`](loggia_api::Caller) to the extensions of a request with a valid key, and the
/// key's [`Scopes`] if they are not the default ones. It does not refuse requests.
#[derive(Clone, Debug)]
pub(crate) struct CallerLayer {
    keys: Keys,
}

impl CallerLayer {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys }
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = WithCaller<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCaller {
            inner,
            keys: self.keys.clone(),
        }
    }
}

/// See [`CallerLayer`].
#[derive(Clone, Debug)]
pub(crate) struct WithCaller<S> {
    inner: S,
    keys: Keys,
}

impl<S, B> Service<Request<B>> for WithCaller<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if self.keys.0.knows_holders.load(Ordering::Relaxed)
            && let peer = request.extensions().get::<Peer>()
            && let Some(holder) = self.keys.holder(request.headers(), peer)
        {
            request.extensions_mut().insert(holder.caller.clone());
            if holder.scopes != Scopes::DEFAULT {
                request.extensions_mut().insert(holder.scopes);
            }
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use loggia_api::Caller;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_str(value).expect("a header"),
        )])
    }

    fn name(keys: &Keys, headers: &HeaderMap) -> Option<String> {
        let holder = keys.holder(headers, None)?;
        Some(holder.caller.name.to_string())
    }

    fn holder(name: &str) -> Caller {
        Caller {
            name: name.into(),
            strictness: None,
            models: None,
            may_delete_models: false,
            may_have_priority: false,
        }
    }

    #[test]
    fn rules_and_stored_keys_that_change_at_once_do_not_undo_each_other() {
        const TIMES: usize = 2000;
        let keys = Keys::default();
        let required = |required| KeyRules {
            required: Some(required),
            ..KeyRules::default()
        };
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for time in 0..TIMES {
                    let is_required = time % 2 == 0;
                    keys.change(required(is_required));
                    assert_eq!(keys.are_required(), is_required);
                }
            });
            for time in 0..TIMES {
                let table = Table::with_keys(time % 2 == 0);
                keys.update(|live| live.table = Arc::new(table));
                let found = (keys.have_any(), keys.have_limits());
                assert_eq!(found, (time % 2 == 0, time % 2 == 0));
            }
        });
    }

    #[test]
    fn each_key_has_its_holder_and_all_others_none() {
        let keys = Keys::new([
            (KeyDigest::of("one-key"), holder("one")),
            (KeyDigest::of("another-key"), holder("two")),
        ]);
        let who = |value: &str| name(&keys, &headers(value));
        assert_eq!(who("Bearer one-key"), Some("one".to_owned()));
        assert_eq!(who("bearer  another-key "), Some("two".to_owned()));
        for nobody in [
            "Bearer one-ke",
            "Bearer one-key2",
            "Bearer",
            "Bearer ",
            "one-key",
            "Basic one-key",
            "Bearerone-key",
        ] {
            assert_eq!(who(nobody), None, "{nobody}");
        }
        let both = |own: &'static str, bearer: &str| {
            let mut headers = headers(bearer);
            headers.insert(X_API_KEY, HeaderValue::from_static(own));
            name(&keys, &headers)
        };
        assert_eq!(both(" one-key", "Basic x"), Some("one".to_owned()));
        assert_eq!(both("one-key", "Bearer wrong"), Some("one".to_owned()));
        assert_eq!(both("wrong", "Bearer another-key"), Some("two".to_owned()));
        assert_eq!(
            both("one-key", "Bearer another-key"),
            Some("two".to_owned())
        );
        assert_eq!(both("", "Basic x").or(both("wrong", "Basic x")), None);
        assert_eq!(name(&Keys::default(), &headers("Bearer one-key")), None);
    }
}
