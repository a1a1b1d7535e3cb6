//! Calls through a pool of connections, as a `tower::Service`.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::Full;
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use super::connect::Connector;
use super::connection::Connection;
use super::pool::{Lease, Pool};
use super::{Body, Error, Limits};
use crate::Phase;

/// The head of an answer, to come.
pub type ResponseFuture = BoxFuture<'static, Result<Response<Body>, Error>>;

/// A pool of connections to any number of addresses; clones share it.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    pool: Pool,
    limits: Limits,
}

impl Client {
    /// An empty pool. Calls need a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { connector: Connector::new(limits.connect), pool: Pool::default(), limits }))
    }

    /// What [`Service::call`] does, for those who hold the client shared.
    pub fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let after = shared.limits.headers;
            let answered = timeout(after, shared.ask(request)).await;
            answered.unwrap_or(Err(Error::TimedOut { phase: Phase::Headers, after }))
        })
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// The request's URI must be absolute; [`super::Upstream`] sees to that. Dropping the future, or the body, closes the connection.
///
/// A request is sent again where a pooled connection turns out to be closed before any of it was on its way.
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

impl Shared {
    async fn ask(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        let to = std::mem::take(request.uri_mut());
        *request.uri_mut() = to.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        while let Some(mut lease) = self.pool.take(&to) {
            match lease.connection().ask(request).await {
                Ok(response) => return Ok(self.answered(response, lease)),
                Err(mut unanswered) => match unanswered.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Error::of_request(unanswered.into_error())),
                },
            }
        }
        // Boxed, since it is rare and large: every call would carry the room for it.
        let connection = Box::pin(self.connect(&to)).await?;
        let mut lease = self.pool.adopt(connection, &to);
        match lease.connection().ask(request).await {
            Ok(response) => Ok(self.answered(response, lease)),
            Err(unanswered) => Err(Error::of_request(unanswered.into_error())),
        }
    }

    async fn connect(&self, to: &Uri) -> Result<Connection, Error> {
        let stream = self.connector.clone().oneshot(to.clone()).await.map_err(Error::of_connecting)?;
        Connection::over(stream).await.map_err(Error::of_request)
    }

    fn answered(&self, response: Response<hyper::body::Incoming>, lease: Lease) -> Response<Body> {
        response.map(|incoming| Body::new(incoming, lease, self.limits))
    }
}
