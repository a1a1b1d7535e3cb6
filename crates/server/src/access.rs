//! One line in the log for each request, once its answer has ended; and the gauge of those under way.
//!
//! The line names method, route, status, how it ended, how long it took, and the tokens that it cost. Never a path, a query, a header or a
//! body: what the client sent is the client's.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::extract::MatchedPath;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Ended, Outcome, RequestId, Route};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::InFlight;
use crate::in_flight::Entered;
use crate::verdict::Verdict;

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
        Access { inner, in_flight: self.in_flight.clone() }
    }
}

/// See [`AccessLayer`].
#[derive(Clone, Debug)]
pub(crate) struct Access<S> {
    inner: S,
    in_flight: InFlight,
}

impl<S, B, R> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<AccountedBody<R>>;
    type Error = S::Error;
    type Future = Accounted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let account = Account::open(&request, &self.in_flight);
        Accounted { inner: self.inner.call(request), account: Some(account) }
    }
}

/// What is known of one request. Closed by being dropped, which happens once, however it ends: until something else is known, the client
/// has left.
#[derive(Debug)]
struct Account {
    id: Option<RequestId>,
    method: Method,
    route: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    ended: Ended,
    verdict: Option<Verdict>,
    begun: Instant,
    _entered: Entered,
}

impl Account {
    fn open<B>(request: &Request<B>, in_flight: &InFlight) -> Self {
        Self {
            id: request.extensions().get().cloned(),
            method: request.method().clone(),
            route: route(request),
            status: None,
            ended: Ended { outcome: Outcome::Abandoned, usage: None },
            verdict: None,
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
            route = self.route.as_deref(),
            status = self.status.map(|status| status.as_u16()),
            outcome = word(self.ended.outcome),
            ms,
            prompt_tokens = usage.map(|usage| usage.prompt_tokens),
            completion_tokens = usage.map(|usage| usage.completion_tokens),
            "answered"
        );
    }
}

/// The route as it is written in a routing table; `None` where there is none, so that no path of the client's own is logged.
fn route<B>(request: &Request<B>) -> Option<Cow<'static, str>> {
    if let Some(own) = request.extensions().get::<MatchedPath>() {
        return Some(Cow::Owned(own.as_str().to_owned()));
    }
    Some(Cow::Borrowed(match Route::of(request.method(), request.uri()).ok()? {
        Route::Chat => "/v1/chat/completions",
        Route::Models => "/v1/models",
        Route::Model(_) => "/v1/models/{id}",
    }))
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
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    }
}

pin_project! {
    /// The answer, which will be accounted for.
    pub(crate) struct Accounted<F> {
        #[pin]
        inner: F,
        account: Option<Account>,
    }
}

impl<F, R, E> Future for Accounted<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<AccountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut account = this.account.take();
        if let Some(account) = &mut account {
            account.status = Some(response.status());
            account.verdict = response.extensions().get().cloned();
        }
        Poll::Ready(Ok(response.map(|body| AccountedBody::new(body, account))))
    }
}

pin_project! {
    /// A body that closes the account when it ends.
    pub(crate) struct AccountedBody<B> {
        #[pin]
        inner: B,
        account: Option<Account>,
    }
}

impl<B: Body> AccountedBody<B> {
    fn new(inner: B, account: Option<Account>) -> Self {
        let mut body = Self { inner, account };
        // Such a body is dropped unasked: an empty one, and any that answers HEAD.
        if body.inner.is_end_stream() || body.account.as_ref().is_some_and(|account| account.method == Method::HEAD) {
            close(&mut body.account, Outcome::Complete);
        }
        body
    }
}

impl<B: Body> Body for AccountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Err(_)) => close(this.account, Outcome::Failed),
            // Whoever writes the answer need not ask again once the end is in sight.
            Some(Ok(_)) if this.inner.is_end_stream() => close(this.account, Outcome::Complete),
            Some(Ok(_)) => {}
            None => close(this.account, Outcome::Complete),
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

/// Closes the account: as the door says, where it has the last word.
fn close(account: &mut Option<Account>, outcome: Outcome) {
    if let Some(mut account) = account.take() {
        let verdict = account.verdict.take();
        account.ended = verdict.and_then(|verdict| verdict.known().cloned()).unwrap_or(Ended { outcome, usage: None });
    }
}
