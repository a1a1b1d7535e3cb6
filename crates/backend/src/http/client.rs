//! A pool of connections, as a `tower::Service`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Sleep;
use tower::Service;

use super::connect::Connector;
use super::{Body, Error, Limits};
use crate::Phase;

/// How long an unused connection is kept. uvicorn (vLLM) and cpp-httplib (llama-server) close theirs after 5 s: a request sent
/// into that moment would be lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// The most unused connections to one address.
const IDLE_CONNECTIONS: usize = 512;
/// The most bytes that wait, of one connection, for a slow reader; also the most that headers may take.
const READ_BUFFER: usize = 64 << 10;

/// A pool of connections to any number of addresses; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    pool: legacy::Client<Connector, Full<Bytes>>,
    limits: Limits,
}

impl Client {
    /// An empty pool. Calls need a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(READ_BUFFER)
            .build(Connector::new(limits.connect));
        Self { pool, limits }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// The request's URI must be absolute; [`super::Upstream`] sees to that. Dropping the future, or the body, closes the connection.
///
/// A request is sent again, once, where a pooled connection turns out to be closed before any of it was on its way.
impl Service<Request<Full<Bytes>>> for Client {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.send(request)
    }
}

impl Client {
    /// What [`Service::call`] does, for those who hold the client shared.
    pub fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        ResponseFuture {
            response: self.pool.request(request),
            limit: tokio::time::sleep(self.limits.headers),
            limits: self.limits,
        }
    }
}

pin_project_lite::pin_project! {
    /// The head of an answer, to come.
    #[must_use = "a request is not sent until its future is polled"]
    pub struct ResponseFuture {
        #[pin]
        response: legacy::ResponseFuture,
        #[pin]
        limit: Sleep,
        limits: Limits,
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(response) = this.response.poll(cx) {
            let limits = *this.limits;
            return Poll::Ready(
                response.map(|head| head.map(|body| Body::new(body, limits))).map_err(Error::of_request),
            );
        }
        this.limit.poll(cx).map(|()| Err(Error::TimedOut { phase: Phase::Headers, after: this.limits.headers }))
    }
}
