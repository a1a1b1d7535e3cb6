//! `x-request-id` on every answer: the client's own id if it can be logged, else a new one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, Request, Response};
use loggia_api::RequestId;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The longest id that is accepted from a client.
const LONGEST: usize = 128;

/// Adds the id to the request's extensions, as [`RequestId`], and to the answer's headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestIdLayer;

impl<S> Layer<S> for RequestIdLayer {
    type Service = WithRequestId<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithRequestId { inner }
    }
}

/// See [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub(crate) struct WithRequestId<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for WithRequestId<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (id, header) = request
            .headers()
            .get(X_REQUEST_ID)
            .and_then(clients_own)
            .unwrap_or_else(new);
        request.extensions_mut().insert(RequestId(id));
        Answer {
            inner: self.inner.call(request),
            header: Some(header),
        }
    }
}

pin_project! {
    /// Adds the header to the answer.
    pub(crate) struct Answer<F> {
        #[pin]
        inner: F,
        header: Option<HeaderValue>,
    }
}

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(header)) = (&mut answer, this.header.take()) {
            response.headers_mut().insert(X_REQUEST_ID, header);
        }
        Poll::Ready(answer)
    }
}

/// The client's id, if it is short and consists of visible ASCII: it must not forge or flood log
/// lines.
fn clients_own(header: &HeaderValue) -> Option<(Arc<str>, HeaderValue)> {
    let fit =
        (1..=LONGEST).contains(&header.len()) && header.as_bytes().iter().all(u8::is_ascii_graphic);
    let id = header.to_str().ok().filter(|_| fit)?;
    Some((id.into(), header.clone()))
}

/// A new id: `req_` and 32 hex digits, as OpenAI's.
fn new() -> (Arc<str>, HeaderValue) {
    let mut id = *b"req_________________________________";
    let random: [u8; 16] = rand::random();
    for (digits, byte) in id[4..].chunks_exact_mut(2).zip(random) {
        digits.copy_from_slice(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
    let header = HeaderValue::from_bytes(&id).expect("letters and digits make a header");
    (
        str::from_utf8(&id)
            .expect("letters and digits are UTF-8")
            .into(),
        header,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_kept_only_where_it_is_short_and_visible() {
        let kept = |id: &[u8]| clients_own(&HeaderValue::from_bytes(id).unwrap()).is_some();
        assert!(kept(b"a") && kept(b"trace/17;x=\"1\"") && kept(&[b'x'; LONGEST]));
        assert!(
            !kept(b"")
                && !kept(b"two words")
                && !kept(b"tab\there")
                && !kept("é".as_bytes())
                && !kept(&[b'x'; LONGEST + 1])
        );
    }

    #[test]
    fn new_ids_differ() {
        let (first, second) = (new().0, new().0);
        assert_ne!(first, second);
        assert_eq!(first.len(), 36);
    }
}
