//! Which web pages may use the API from a browser.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use http::header::{ORIGIN, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use loggia_api::Route;
use thiserror::Error;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};

use crate::request_id::X_REQUEST_ID;

/// The pages that may, by their origin (`https://chat.example`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Those that this machine serves itself: `localhost`, `127.0.0.1` and `[::1]`, on any port.
    /// Any other page that the user happens to have open could otherwise use a server that asks for
    /// no key.
    #[default]
    ThisMachine,
    /// Every page there is.
    Any,
    /// These, and no others.
    These(Vec<HeaderValue>),
}

/// An origin that no browser sends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no origin; write scheme and host, and the port where there is one: https://chat.example:8443, or * for every page"
)]
pub struct BadOrigin(String);

impl Origins {
    /// From a list as a person writes it: origins, or `*` among them for all. An empty list lets no
    /// page in.
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
}

/// A browser sends scheme, host and a port that is not the scheme's own; no path, not even `/`.
/// Compared byte by byte, so lower case.
fn parse_one(origin: &str) -> Option<HeaderValue> {
    let (scheme, host) = origin.split_once("://")?;
    let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']) && !scheme.is_empty();
    let uri: Uri = origin.parse().ok()?;
    (plain && uri.authority().is_some())
        .then(|| HeaderValue::from_str(&origin.to_ascii_lowercase()).ok())?
}

/// What a browser app needs, for requests that come from a page, which name their origin. All
/// others pass by: writing down for each program what pages may do takes longer than the whole of
/// the other layers.
#[derive(Clone, Debug)]
pub(crate) struct PagesLayer(Arc<CorsLayer>);

impl PagesLayer {
    /// Preflights answered (they carry no key), any header that they ask for (the `openai` package
    /// sends `authorization`, `content-type` and a handful of `x-stainless-*`), and leave to read
    /// the answer's own headers.
    ///
    /// Where the API asks for keys, pages may send DELETE too: what it may do is the key's matter.
    pub(crate) fn new(origins: &Origins, asks_for_a_key: bool) -> Self {
        let methods = Route::methods()
            .into_iter()
            .filter(|method| asks_for_a_key || *method != Method::DELETE);
        let exposed = [
            X_REQUEST_ID,
            HeaderName::from_static("x-loggia-served-by"),
            HeaderName::from_static("x-loggia-ignored"),
            HeaderName::from_static("x-loggia-changed"),
            RETRY_AFTER,
            HeaderName::from_static("retry-after-ms"),
        ];
        let cors = CorsLayer::new()
            .allow_origin(allowed(origins))
            .allow_methods(methods.collect::<Vec<_>>())
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed)
            // Two hours is the most that any browser keeps a preflight.
            .max_age(Duration::from_hours(2));
        Self(Arc::new(cors))
    }
}

impl<S> Layer<S> for PagesLayer {
    type Service = Pages<S>;

    fn layer(&self, inner: S) -> Pages<S> {
        Pages {
            cors: Arc::clone(&self.0),
            inner,
        }
    }
}

/// See [`PagesLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Pages<S> {
    cors: Arc<CorsLayer>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Pages<S>
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
        // The one that is ready, and not its copy.
        let copy = self.inner.clone();
        let ready = mem::replace(&mut self.inner, copy);
        Either::Left(self.cors.layer(ready).call(request))
    }
}

fn allowed(origins: &Origins) -> AllowOrigin {
    match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::These(these) => AllowOrigin::list(these.iter().cloned()),
        Origins::ThisMachine => AllowOrigin::predicate(|origin, _| is_of_this_machine(origin)),
    }
}

fn is_of_this_machine(origin: &HeaderValue) -> bool {
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
