//! [`Upstream`]: the address of one engine, its API key and the connection pool.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri};
use thiserror::Error;
use tower::Service;

use super::{BaseUrl, Body, Client, Error, Form, RequestBody, ResponseFuture};
use crate::Trace;

/// The API key for an engine. Sent as `authorization: Bearer …`, never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(HeaderValue);

/// The API key contains characters that a header cannot contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the API key of a backend must be one line of visible ASCII characters; check it for line breaks and quotes"
)]
pub struct KeyError;

impl std::str::FromStr for Key {
    type Err = KeyError;

    fn from_str(secret: &str) -> Result<Self, KeyError> {
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {secret}")).map_err(|_| KeyError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The API of one engine. A request for a path is sent to that path at the engine's address. Clones
/// share it.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Api>);

#[derive(Debug)]
struct Api {
    client: Client,
    base: BaseUrl,
    host: Option<HeaderValue>,
    key: Option<Key>,
}

impl Upstream {
    /// Creates the API at `base`, with connections from this pool.
    pub fn new(client: Client, base: BaseUrl, key: Option<Key>) -> Self {
        let host = base.host();
        Self(Arc::new(Api {
            client,
            base,
            host,
            key,
        }))
    }

    /// Returns the base URL.
    pub fn base(&self) -> &BaseUrl {
        &self.0.base
    }

    /// Returns whether requests carry an API key.
    pub fn has_key(&self) -> bool {
        self.0.key.is_some()
    }

    /// Returns the absolute URI of a path, for the methods below. Create it once and keep it.
    pub fn uri(&self, path: &'static str) -> Uri {
        self.0.base.join(&PathAndQuery::from_static(path))
    }

    /// Sends a GET request.
    pub async fn get(&self, uri: &Uri) -> Result<Response<Body>, Error> {
        let mut request = Request::new(RequestBody::from(Bytes::new()));
        *request.uri_mut() = uri.clone();
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        self.send(request).await
    }

    /// Sends a POST request with JSON, as a part of a trace if there is one.
    pub async fn post_json(
        &self,
        uri: &Uri,
        json: Bytes,
        accept: &'static str,
        trace: Option<&Trace>,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::new(RequestBody::from(json));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(trace) = trace {
            trace.add_to(request.headers_mut());
        }
        self.send(request).await
    }

    /// Sends a POST request with a form, whose file is read as it is sent, as a part of a trace if
    /// there is one.
    pub async fn post_form(
        &self,
        uri: &Uri,
        form: Form,
        accept: &'static str,
        trace: Option<&Trace>,
    ) -> Result<Response<Body>, Error> {
        let content_type = form.content_type();
        let mut request = Request::new(RequestBody::from(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(trace) = trace {
            trace.add_to(headers);
        }
        self.send(request).await
    }

    /// Sends a request whose URI is absolute. Adds the headers for the API key, the host and the
    /// user agent.
    fn send(&self, mut request: Request<RequestBody>) -> ResponseFuture {
        let Api {
            client, host, key, ..
        } = &*self.0;
        let headers = request.headers_mut();
        if let Some(host) = host {
            headers.insert(HOST, host.clone());
        }
        if let Some(Key(key)) = key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        headers.entry(USER_AGENT).or_insert(
            const { HeaderValue::from_static(concat!("loggia/", env!("CARGO_PKG_VERSION"))) },
        );
        client.send(request)
    }
}

/// Replaces the scheme and authority of a request's URI by those of this address.
impl Service<Request<RequestBody>> for Upstream {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> ResponseFuture {
        let uri = match request.uri().path_and_query() {
            Some(path) => self.0.base.join(path),
            None => self.uri("/"),
        };
        *request.uri_mut() = uri;
        self.send(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key: Key = "sk-very-secret".parse().unwrap();
        let upstream = Upstream::new(
            Client::default(),
            "http://localhost".parse().unwrap(),
            Some(key),
        );
        assert!(!format!("{upstream:?}").contains("secret"));
    }

    #[test]
    fn a_key_that_cannot_stand_in_a_header_is_refused() {
        for secret in ["", "two words", "line\n", "é"] {
            assert_eq!(secret.parse::<Key>(), Err(KeyError), "{secret:?}");
        }
    }
}
