//! The account of a request: what is known about it from its head to the end of its answer. When
//! the answer ends, for whatever reason, each [`Listener`] gets the closed account. The access log
//! is a listener; metrics, limits and ledgers can be others. `listeners` in `app.rs` is the list of
//! them. A line of a batch has an account like the request of a client. So has a response that is
//! made in the background (`background.rs`), beside the account of the request that asked for it.
//!
//! The account lives in the response body, so it lasts exactly as long as the answer. Only the
//! gauge of running requests lasts longer.

pub(crate) mod background;
pub(crate) mod closed;
pub(crate) mod in_flight;
pub(crate) mod ledger;
mod log;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body as OwnBody;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Caller, Ended, Outcome, RequestId, Route};
use loggia_backend::Trace;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::body::AnswerBody;
use crate::health::own_route;
use crate::live::{Live, Shown};
use crate::traces::{RequestSpan, RequestTraces};
pub(crate) use closed::{Closed, Listener, Listeners};
pub(crate) use in_flight::Entered;
pub use in_flight::InFlight;
pub use ledger::Ledger;
pub(crate) use log::Log;

/// Opens an account for every request.
#[derive(Clone)]
pub(crate) struct AccountLayer {
    in_flight: InFlight,
    /// The running requests that an engine works on.
    generating: InFlight,
    /// The running requests whose answer is a stream that has begun.
    streams: InFlight,
    listeners: Listeners,
    /// Where running requests are shown.
    live: Option<Live>,
    /// Records spans of requests.
    traces: Option<RequestTraces>,
    is_of_batches: bool,
}

impl AccountLayer {
    pub(crate) fn new(in_flight: InFlight, listeners: Listeners) -> Self {
        Self {
            in_flight,
            generating: InFlight::default(),
            streams: InFlight::default(),
            listeners,
            live: None,
            traces: None,
            is_of_batches: false,
        }
    }

    /// Returns the layer for lines of batches. They have the same listeners, but are in no gauge:
    /// the gauges are those of clients, for whom batches wait.
    pub(crate) fn of_batches(self) -> Self {
        Self {
            in_flight: InFlight::default(),
            generating: InFlight::default(),
            streams: InFlight::default(),
            is_of_batches: true,
            ..self
        }
    }

    /// Sets where running requests are shown.
    pub(crate) fn with_live(self, live: Option<Live>) -> Self {
        Self { live, ..self }
    }

    /// Sets what records spans of requests.
    pub(crate) fn with_traces(self, traces: Option<RequestTraces>) -> Self {
        Self { traces, ..self }
    }

    /// Sets the gauge of the requests that an engine works on.
    pub(crate) fn with_generating(self, generating: InFlight) -> Self {
        Self { generating, ..self }
    }

    /// Sets the gauge of the streams.
    pub(crate) fn with_streams(self, streams: InFlight) -> Self {
        Self { streams, ..self }
    }
}

impl<S> Layer<S> for AccountLayer {
    type Service = Accounts<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Accounts {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service of [`AccountLayer`].
#[derive(Clone)]
pub(crate) struct Accounts<S> {
    inner: S,
    layer: Arc<AccountLayer>,
}

impl<S, B> Service<Request<B>> for Accounts<S>
where
    S: Service<Request<B>, Response = Response<AnswerBody>>,
{
    type Response = Response<AccountedBody>;
    type Error = S::Error;
    type Future = Accounted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Boxed, because it is moved from the future to the response to the body.
        let account = Box::new(Account::open(&mut request, &self.layer));
        Accounted {
            inner: self.inner.call(request),
            account: Some(account),
            streams: self.layer.streams.clone(),
        }
    }
}

/// The account of one request. Dropping it closes it: the listeners are called, exactly once. The
/// outcome is `Abandoned` unless another one was reported before.
struct Account {
    id: Option<RequestId>,
    trace: Option<Box<Trace>>,
    span: Option<Box<RequestSpan>>,
    /// The name of the API key, if keys are configured.
    key: Option<Arc<str>>,
    method: Method,
    route: Option<&'static str>,
    status: Option<StatusCode>,
    /// How the answer ended; `None` until that is known. Boxed, because every open stream has an
    /// account.
    ended: Option<Box<Ended>>,
    opened: Instant,
    listeners: Listeners,
    is_http2: bool,
    is_of_batch: bool,
    /// The request among those that are shown.
    shown: Option<Shown>,
    _entered: Entered,
    _generating: Option<Entered>,
    /// Set if the answer is a stream.
    streaming: Option<Entered>,
}

impl Account {
    fn open<B>(request: &mut Request<B>, layer: &AccountLayer) -> Self {
        let route = Route::of(request.method(), request.uri()).ok();
        let own = own_route(request.uri().path());
        let span = match &layer.traces {
            Some(traces) if own.is_none() && route.is_some() => traces.begin(request.headers_mut()),
            _ => None,
        };
        let generates = route.as_ref().is_some_and(Route::generates);
        let id: Option<RequestId> = request.extensions().get().cloned();
        let caller = request.extensions().get::<Caller>();
        let key = caller.map(|caller| Arc::clone(&caller.name));
        let shown = match (&layer.live, &route) {
            (Some(live), Some(route)) if generates => {
                let (id, key) = (id.clone(), key.clone());
                let (shown, running) = live.open(id, key, route.path(), layer.is_of_batches);
                request.extensions_mut().insert(running);
                Some(shown)
            }
            _ => None,
        };
        Self {
            id,
            trace: Trace::of(request.headers()),
            span,
            key,
            method: request.method().clone(),
            route: own.or(route.map(|route| route.path())),
            status: None,
            ended: None,
            opened: Instant::now(),
            listeners: Arc::clone(&layer.listeners),
            is_http2: request.version() == Version::HTTP_2,
            is_of_batch: layer.is_of_batches,
            shown,
            _entered: layer.in_flight.enter(),
            _generating: generates.then(|| layer.generating.enter()),
            streaming: None,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let ended = self.ended.take();
        let ended = ended.unwrap_or_else(|| Box::new(Ended::new(Outcome::Abandoned)));
        let closed = Closed {
            id: self.id.as_ref(),
            trace: self.trace.as_deref(),
            key: self.key.as_deref(),
            method: &self.method,
            route: self.route,
            status: self.status,
            ended: &ended,
            opened: self.opened,
            took: self.opened.elapsed(),
            is_stream: self.streaming.is_some(),
            is_http2: self.is_http2,
            is_of_batch: self.is_of_batch,
            background: None,
        };
        for listener in &*self.listeners {
            listener.closed(&closed);
        }
        if let Some(span) = self.span.take() {
            span.end(&closed);
        }
        if let Some(shown) = &self.shown {
            shown.close(&closed);
        }
    }
}

pin_project! {
    /// Adds the account to the body of the answer.
    pub(crate) struct Accounted<F> {
        #[pin]
        inner: F,
        account: Option<Box<Account>>,
        streams: InFlight,
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
            let is_stream = response.body().is_stream();
            account.streaming = is_stream.then(|| this.streams.enter());
            if let Some(shown) = account.shown.as_ref().filter(|_| is_stream) {
                shown.streams();
            }
        }
        Poll::Ready(Ok(response.map(|body| AccountedBody::new(body, account))))
    }
}

/// A body that closes the account when it ends.
pub(crate) struct AccountedBody {
    inner: AnswerBody,
    account: Option<Box<Account>>,
}

impl From<OwnBody> for AccountedBody {
    /// Creates a body without an account.
    fn from(body: OwnBody) -> Self {
        Self::new(body.into(), None)
    }
}

impl AccountedBody {
    fn new(inner: AnswerBody, account: Option<Box<Account>>) -> Self {
        let mut body = Self { inner, account };
        // hyper drops these bodies without polling them: an empty body, and every body of an answer
        // to HEAD.
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

    /// Closes the account with the outcome that the body reports. `outcome` is for bodies that
    /// report none.
    fn close(&mut self, outcome: Outcome) {
        if let Some(mut account) = self.account.take() {
            let ended = self.inner.ended().cloned();
            account.ended = Some(Box::new(ended.unwrap_or_else(|| Ended::new(outcome))));
        }
    }
}

/// The client left before the end of the answer.
impl Drop for AccountedBody {
    fn drop(&mut self) {
        if let Some(mut account) = self.account.take() {
            account.ended = Some(Box::new(self.inner.so_far()));
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
            // hyper may not poll again after the last frame.
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::StreamExt as _;
    use futures_util::future::BoxFuture;
    use http_body_util::{BodyExt as _, Full};
    use loggia_api::{Door, Policy};
    use loggia_backend::{Abilities, Backend, BackendError, Call, Chunk, Event, Reply, ServedBy};
    use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, Model};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// A backend that sends one word and its usage. Its stream never ends.
    struct OneWord;

    impl Backend for OneWord {
        fn abilities<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
            Box::pin(async { Ok(Arc::default()) })
        }

        fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
            let word = Chunk::of(ChunkChoice::delta(0, Delta::content("one")));
            let events = [Event::Chunk(word), Event::Usage(CompletionUsage::new(3, 1))];
            let events = futures_util::stream::iter(events.map(Ok));
            Box::pin(std::future::ready(Ok(Reply {
                served_by: ServedBy::new("b", "m"),
                events: events.chain(futures_util::stream::pending()).boxed(),
            })))
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    struct RecordingListener(Arc<Mutex<Vec<Ended>>>);

    impl Listener for RecordingListener {
        fn closed(&self, closed: &Closed<'_>) {
            self.0.lock().unwrap().push(closed.ended.clone());
        }
    }

    #[tokio::test]
    async fn listeners_hear_what_is_known_of_an_answer_whose_client_left() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Box<dyn Listener> = Box::new(RecordingListener(Arc::clone(&heard)));
        let listeners: Listeners = Arc::new([listener]);
        let door = Door::new(Arc::new(OneWord), Policy::default());
        let routes = service_fn(move |request: Request<Full<Bytes>>| {
            let door = door.clone();
            async move {
                let answer = door.serve(request).await;
                Ok::<_, std::convert::Infallible>(answer.map(AnswerBody::from))
            }
        });
        let accounts = AccountLayer::new(InFlight::default(), listeners).layer(routes);
        let body = r#"{"model":"asked","messages":[{"role":"user","content":"x"}],"stream":true}"#;
        let request = Request::post("/v1/chat/completions").body(Full::from(body));
        let answer = accounts.oneshot(request.unwrap()).await.unwrap();
        let mut body = answer.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);

        let heard = heard.lock().unwrap();
        let [ended] = &heard[..] else {
            panic!("one account, and not {heard:?}");
        };
        assert_eq!(ended.outcome, Outcome::Abandoned);
        assert_eq!(ended.model.as_deref(), Some("asked"));
        assert_eq!(ended.served_by, Some(ServedBy::new("b", "m")));
        assert_eq!(ended.usage, Some(CompletionUsage::new(3, 1)));
        assert!(ended.first_token_at.is_some() && ended.waited.is_some());
    }
}
