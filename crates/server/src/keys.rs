//! API keys: which are valid, and who their callers are. The program reads them; the API decides
//! what a caller may do.
//!
//! Keys are not stored, only their SHA-256 digests. A client's digest is compared with every stored
//! one in constant time.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request};
use loggia_api::{ApiError, Caller};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tower::{Layer, Service};

/// The header with the key in Anthropic's API.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The SHA-256 digest of an API key. A key must be long and random: the digest has no salt and is
/// fast to compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes a key.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Parses 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| {
                char::from(pair[at])
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Some(Self(digest))
    }
}

/// Does not show the digest: a short key can be guessed from it.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// The configured API keys. If empty, no key is required. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<[(KeyDigest, Caller)]>);

impl Keys {
    /// Accepts these keys, each for its caller.
    pub fn new(keys: impl IntoIterator<Item = (KeyDigest, Caller)>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Whether no key is configured, so that none is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller whose key has this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Caller> {
        let mut callers = self.0.iter().map(|(_, caller)| caller);
        callers.find(|caller| &*caller.name == name)
    }

    /// The caller whose key the request has; `None` without a valid key.
    fn caller(&self, headers: &HeaderMap) -> Option<&Caller> {
        keys(headers).find_map(|key| self.holder(key))
    }

    fn holder(&self, key: &[u8]) -> Option<&Caller> {
        let theirs = KeyDigest::of(key);
        let mut place = u32::MAX;
        for (at, (digest, _)) in (0..u32::MAX).zip(self.0.iter()) {
            let same: Choice = digest.0.ct_eq(&theirs.0);
            place.conditional_assign(&at, same);
        }
        self.0.get(place as usize).map(|(_, caller)| caller)
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

/// Adds the [`Caller`] to the extensions of a request with a valid key. It does not refuse
/// requests.
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
        if !self.keys.is_empty()
            && let Some(caller) = self.keys.caller(request.headers())
        {
            let caller = caller.clone();
            request.extensions_mut().insert(caller);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_str(value).expect("a header"),
        )])
    }

    fn holder(name: &str) -> Caller {
        Caller {
            name: name.into(),
            strictness: None,
            models: None,
            may_delete_models: false,
        }
    }

    #[test]
    fn a_digest_is_what_sha256sum_prints_of_the_key() {
        let printed = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(KeyDigest::from_hex(printed), Some(KeyDigest::of("secret")));
        assert_eq!(
            KeyDigest::from_hex(&printed.to_uppercase()),
            Some(KeyDigest::of("secret"))
        );
        for wrong in [
            "",
            "2bb8",
            &format!("{printed}0"),
            &printed.replace('b', "g"),
            &printed.replace("2b", "é"),
        ] {
            assert_eq!(KeyDigest::from_hex(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{:?}", KeyDigest::of("secret")), "KeyDigest(…)");
    }

    #[test]
    fn each_key_has_its_holder_and_all_others_none() {
        let keys = Keys::new([
            (KeyDigest::of("one-key"), holder("one")),
            (KeyDigest::of("another-key"), holder("two")),
        ]);
        let who = |value: &str| keys.caller(&headers(value)).map(|caller| &*caller.name);
        assert_eq!(who("Bearer one-key"), Some("one"));
        assert_eq!(who("bearer  another-key "), Some("two"));
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
            keys.caller(&headers).map(|caller| &*caller.name)
        };
        assert_eq!(both(" one-key", "Basic x"), Some("one"));
        assert_eq!(both("one-key", "Bearer wrong"), Some("one"));
        assert_eq!(both("wrong", "Bearer another-key"), Some("two"));
        assert_eq!(both("one-key", "Bearer another-key"), Some("two"));
        assert_eq!(both("", "Basic x").or(both("wrong", "Basic x")), None);
        assert_eq!(Keys::default().caller(&headers("Bearer one-key")), None);
    }
}
