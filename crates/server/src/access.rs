//! One line in the log for each request, once its answer has ended; and the gauge of those under
//! way.
//!
//! The line names method, route, status, whose key it was, how it ended, how long it took, and the
//! tokens that it cost. Never a path, a query, a header or a body: what the client sent is the
//! client's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Caller, Ended, Outcome, RequestId, Route};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::InFlight;
use crate::app::own_route;
use crate::body::AnswerBody;
use crate::in_flight::Entered;

/// Accounts for every request.
#[derive(Clone, Debug)]
pub(crate) struct AccessLayer {
    in_flight: InFlight,
}

impl AccessLayer {
    pub(crate) fn new(in_flight: InFlight) -> Self {
        Self { in_flight }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Access {
            inner,
            in_flight: self.in_flight.clone(),
        }
    }
}

/// See [`AccessLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Access<S> {
    inner: S,
    in_flight: InFlight,
}

impl<S, B> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<AnswerBody>>,
{
    type Response = Response<AccountedBody>;
    type Error = S::Error;
    type Future = Accounted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Boxed: it is handed from future to response to body.
        let account = Box::new(Account::open(&request, &self.in_flight));
        Accounted {
            inner: self.inner.call(request),
            account: Some(account),
        }
    }
}

/// What is known of one request. Closed by being dropped, which happens once, however it ends:
/// until something else is known, the client has left.
#[derive(Debug)]
struct Account {
    id: Option<RequestId>,
    /// The name of the key, where there are keys.
    key: Option<Arc<str>>,
    method: Method,
    route: Option<&'static str>,
    status: Option<StatusCode>,
    ended: Ended,
    begun: Instant,
    _entered: Entered,
}

impl Account {
    fn open<B>(request: &Request<B>, in_flight: &InFlight) -> Self {
        Self {
            id: request.extensions().get().cloned(),
            key: request
                .extensions()
                .get::<Caller>()
                .map(|caller| Arc::clone(&caller.name)),
            method: request.method().clone(),
            route: route(request),
            status: None,
            ended: Ended::new(Outcome::Abandoned),
            begun: Instant::now(),
            _entered: in_flight.enter(),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let usage = self.ended.usage.as_ref();
        // To the microsecond; the digits after that say nothing.
        let ms = (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            request_id = self.id.as_ref().map(|id| &*id.0),
            method = known(&self.method),
            route = self.route,
            status = self.status.map(|status| status.as_u16()),
            key = self.key.as_deref(),
            outcome = word(self.ended.outcome),
            ms,
            prompt_tokens = usage.map(|usage| usage.prompt_tokens),
            completion_tokens = usage.map(|usage| usage.completion_tokens),
            "answered"
        );
    }
}

/// The route as it is written in a routing table; `None` where there is none, so that no path of
/// the client's own is logged.
fn route<B>(request: &Request<B>) -> Option<&'static str> {
    own_route(request.uri().path()).or_else(|| {
        let route = Route::of(request.method(), request.uri()).ok()?;
        Some(route.path())
    })
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Failed => "failed",
        Outcome::Abandoned => "abandoned",
    }
}

/// A method of HTTP's own; any other is a word of the client's.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}

pin_project! {
    /// The answer, which will be accounted for.
    pub(crate) struct Accounted<F> {
        #[pin]
        inner: F,
        account: Option<Box<Account>>,
    }
}

impl<F, E> Future for Accounted<F>
where
    F: Future<Output = Result<Response<AnswerBody>, E>>,
{
    type Output = Result<Response<AccountedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut account = this.account.take();
        if let Some(account) = &mut account {
            account.status = Some(response.status());
        }
        Poll::Ready(Ok(response.map(|body| AccountedBody::new(body, account))))
    }
}

/// A body that closes the account when it ends.
pub(crate) struct AccountedBody {
    inner: AnswerBody,
    account: Option<Box<Account>>,
}

impl AccountedBody {
    fn new(inner: AnswerBody, account: Option<Box<Account>>) -> Self {
        let mut body = Self { inner, account };
        // Such a body is dropped unasked: an empty one, and any that answers HEAD.
        if body.inner.is_end_stream()
            || body
                .account
                .as_ref()
                .is_some_and(|account| account.method == Method::HEAD)
        {
            body.close(Outcome::Complete);
        }
        body
    }

    /// Closes the account: as the body itself says, where it does.
    fn close(&mut self, outcome: Outcome) {
        if let Some(mut account) = self.account.take() {
            account.ended = self
                .inner
                .ended()
                .cloned()
                .unwrap_or_else(|| Ended::new(outcome));
        }
    }
}

impl Body for AccountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.close(Outcome::Failed),
            // Whoever writes the answer need not ask again once the end is in sight.
            Some(Ok(_)) if self.inner.is_end_stream() => self.close(Outcome::Complete),
            Some(Ok(_)) => {}
            None => self.close(Outcome::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
