//! CORS: which web pages may use the API from a browser.

use std::mem;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use http::header::{ORIGIN, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use loggia_api::Route;
use thiserror::Error;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};

use crate::Keys;
use crate::limits::headers;
use crate::request_id::X_REQUEST_ID;

/// The allowed web pages, by origin (`https://chat.example`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages that this machine serves: `localhost`, `127.0.0.1` and `[::1]`, on any port. Without
    /// this limit, any page that the user has open could use a server without API keys.
    #[default]
    ThisMachine,
    /// Every page may read answers.
    Any,
    /// Only pages of these origins may read answers.
    These(Vec<HeaderValue>),
}

/// The error for a text that is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not an origin; write a scheme, a host and, if necessary, a port: https://chat.example:8443, or * for every page"
)]
pub struct BadOrigin(String);

impl Origins {
    /// Parses a list of origins; `*` among them allows every page. An empty list allows no page.
    pub fn parse<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Result<Self, BadOrigin> {
        let mut these = Vec::new();
        for origin in list {
            match origin.as_ref() {
                "*" => return Ok(Self::Any),
                origin => {
                    these.push(parse_one(origin).ok_or_else(|| BadOrigin(origin.to_owned()))?);
                }
            }
        }
        Ok(Self::These(these))
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::ThisMachine => is_of_this_machine(origin),
            Self::Any => true,
            Self::These(these) => these.contains(origin),
        }
    }
}

/// Parses an origin as browsers send it: scheme, host, and a port that is not the default one; no
/// path, not even `/`. Browsers send it in lower case.
fn parse_one(origin: &str) -> Option<HeaderValue> {
    let (scheme, host) = origin.split_once("://")?;
    let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']) && !scheme.is_empty();
    let uri: Uri = origin.parse().ok()?;
    (plain && uri.authority().is_some())
        .then(|| HeaderValue::from_str(&origin.to_ascii_lowercase()).ok())?
}

/// Adds CORS headers to requests with an `Origin` header, and answers preflights. Other requests
/// skip this layer: computing the headers takes longer than all other layers together.
///
/// Pages may send DELETE only while API keys are required; the key then decides what it may delete.
#[derive(Clone, Debug)]
pub(crate) struct PagesLayer {
    pages: Pages,
    keys: Keys,
}

impl PagesLayer {
    pub(crate) fn new(pages: Pages, keys: Keys) -> Self {
        Self { pages, keys }
    }
}

/// The web pages that may use the API of a running server. Clones share them.
#[derive(Clone, Debug)]
pub struct Pages(Arc<RwLock<Arc<Allowed>>>);

impl Pages {
    /// Allows the pages of these origins.
    pub(crate) fn new(origins: Origins) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Allowed::new(origins)))))
    }

    /// Allows the pages of these origins, and no others, for requests that begin from now on.
    pub fn change(&self, origins: Origins) {
        let allowed = Arc::new(Allowed::new(origins));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = allowed;
    }

    /// Whether a page of this origin may use the API.
    pub(crate) fn allow(&self, origin: &HeaderValue) -> bool {
        self.allowed().origins.allow(origin)
    }

    fn allowed(&self) -> Arc<Allowed> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Some origins, and the CORS headers for their pages.
#[derive(Debug)]
struct Allowed {
    origins: Origins,
    /// While API keys are required.
    with_key: CorsLayer,
    /// While none is required.
    without_key: CorsLayer,
}

impl Allowed {
    /// Answers preflights without requiring a key, allows every requested header (the `openai`
    /// package sends `authorization`, `content-type` and several `x-stainless-*`), and exposes the
    /// answer's own headers.
    fn new(origins: Origins) -> Self {
        let exposed = [
            X_REQUEST_ID,
            HeaderName::from_static("x-loggia-served-by"),
            HeaderName::from_static("x-loggia-ignored"),
            HeaderName::from_static("x-loggia-changed"),
            HeaderName::from_static("x-loggia-reranked-by"),
            HeaderName::from_static("x-loggia-assumed"),
            HeaderName::from_static("request-id"),
            HeaderName::from_static("x-loggia-truncated"),
            HeaderName::from_static("x-loggia-estimated"),
            RETRY_AFTER,
            HeaderName::from_static("retry-after-ms"),
        ];
        let exposed: Vec<HeaderName> = exposed.into_iter().chain(headers::names()).collect();
        let cors = CorsLayer::new()
            .allow_origin(allowed(&origins))
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed)
            // Two hours is the longest time for which any browser caches a preflight.
            .max_age(Duration::from_hours(2));
        let methods = Route::methods();
        let mut harmless = methods.clone();
        harmless.retain(|method| *method != Method::DELETE);
        Self {
            with_key: cors.clone().allow_methods(methods),
            without_key: cors.allow_methods(harmless),
            origins,
        }
    }
}

impl<S> Layer<S> for PagesLayer {
    type Service = PagesService<S>;

    fn layer(&self, inner: S) -> PagesService<S> {
        PagesService {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`PagesLayer`].
#[derive(Clone, Debug)]
pub(crate) struct PagesService<S> {
    layer: PagesLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for PagesService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<<Cors<S> as Service<Request<B>>>::Future, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !request.headers().contains_key(ORIGIN) {
            return Either::Right(self.inner.call(request));
        }
        // Calls the service that was polled ready, and keeps the clone.
        let copy = self.inner.clone();
        let ready = mem::replace(&mut self.inner, copy);
        let allowed = self.layer.pages.allowed();
        let cors = if self.layer.keys.are_required() {
            &allowed.with_key
        } else {
            &allowed.without_key
        };
        Either::Left(cors.layer(ready).call(request))
    }
}

fn allowed(origins: &Origins) -> AllowOrigin {
    match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::These(these) => AllowOrigin::list(these.iter().cloned()),
        Origins::ThisMachine => AllowOrigin::predicate(|origin, _| is_of_this_machine(origin)),
    }
}

pub(crate) fn is_of_this_machine(origin: &HeaderValue) -> bool {
    let uri: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    uri.is_some_and(|uri| matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_a_person_writes_them() {
        let these = |list: &[&'static str]| {
            Origins::These(
                list.iter()
                    .map(|&origin| HeaderValue::from_static(origin))
                    .collect(),
            )
        };
        assert_eq!(Origins::parse(["*"]), Ok(Origins::Any));
        assert_eq!(Origins::parse(["https://a.example", "*"]), Ok(Origins::Any));
        assert_eq!(Origins::parse([""; 0]), Ok(these(&[])));
        let two = ["https://Chat.example", "http://10.0.0.7:8080"];
        assert_eq!(
            Origins::parse(two),
            Ok(these(&["https://chat.example", "http://10.0.0.7:8080"]))
        );
        assert_eq!(
            Origins::parse(["chrome-extension://abcdef"]),
            Ok(these(&["chrome-extension://abcdef"]))
        );
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for wrong in [
            "chat.example",
            "https://",
            "https://chat.example/",
            "https://*.example",
            "",
            "https://a b",
            "://a",
        ] {
            assert_eq!(
                Origins::parse([wrong]),
                Err(BadOrigin(wrong.to_owned())),
                "{wrong}"
            );
        }
    }

    #[test]
    fn only_pages_of_this_machine_are_of_this_machine() {
        let own = |origin: &'static str| is_of_this_machine(&HeaderValue::from_static(origin));
        assert!(
            own("http://localhost:3000") && own("https://127.0.0.1") && own("http://[::1]:5173")
        );
        assert!(
            !own("https://localhost.evil.example")
                && !own("https://evil.example")
                && !own("null")
                && !own("file://")
        );
    }
}
