//! A pooled HTTP client, as a `tower::Service`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use super::connect::Connector;
use super::connection::{Answered, Connection, Unanswered, was_closed};
use super::error::Broken;
use super::pool::{Lease, Pool};
use super::{Body, Error, Limits, RequestBody, TlsFault};
use crate::Phase;

/// If a pooled connection is closed without a response, this soon after a request was sent, then
/// request and end crossed. llama-server (11549) closes the connection after each streamed answer,
/// though its head says `Keep-Alive: timeout=5`. The limit is longer than the way to an engine and
/// back, and short enough that no prompt that ends an engine is sent to it twice.
const CROSSED: Duration = Duration::from_millis(500);

/// A future of the head of a response.
pub type ResponseFuture = BoxFuture<'static, Result<Response<Body>, Error>>;

/// A pool of connections to any number of addresses. Clones share it.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    pool: Pool,
    limits: Limits,
    /// The addresses that answered over plain HTTP, or that were found not to speak TLS.
    spoken_to: Mutex<HashSet<Authority>>,
}

impl Client {
    /// Creates an empty pool. Calls need a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        Self::over(Connector::new(limits.connect, None), limits)
    }

    /// Creates an empty pool of connections to this address, whatever the host of a URL. The host is
    /// the name in the head of requests and in TLS.
    pub fn to_address(address: IpAddr, limits: Limits) -> Self {
        Self::over(Connector::new(limits.connect, Some(address)), limits)
    }

    fn over(connector: Connector, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            connector,
            pool: Pool::default(),
            limits,
            spoken_to: Mutex::default(),
        }))
    }

    /// Does the same as [`Service::call`] through a shared reference.
    pub fn send(&self, request: Request<impl Into<RequestBody>>) -> ResponseFuture {
        let request = request.map(Into::into);
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let after = shared.limits.headers;
            let answered = timeout(after, shared.ask(request)).await;
            answered.unwrap_or(Err(Error::TimedOut {
                phase: Phase::Headers,
                after,
            }))
        })
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// The URI of the request must be absolute, as [`super::Upstream`] makes it. Dropping the future or
/// the body closes the connection.
///
/// A request is sent again if its pooled connection was closed before any of it was sent, or at once
/// after that and without a response: the server closed the connection when it had no request.
impl Service<Request<RequestBody>> for Client {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> ResponseFuture {
        self.send(request)
    }
}

/// Returns whether the connection was closed before the head of a response.
fn was_closed_early(unanswered: &Unanswered) -> bool {
    match &unanswered.error {
        Broken::Closed => true,
        Broken::Io(error) => was_closed(error),
        Broken::NotHttp(_) => false,
    }
}

/// Returns whether the response is not from an engine: it is not HTTP, or it is the 400 without
/// JSON of a server that requires TLS.
fn is_no_answer(asked: &Result<Answered, Unanswered>) -> bool {
    match asked {
        Ok(answered) if answered.response.status() == StatusCode::BAD_REQUEST => {
            let headers = answered.response.headers();
            let kind = headers.get(CONTENT_TYPE);
            let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
            !kind.starts_with(b"application/json")
        }
        Ok(_) => false,
        Err(_) => true,
    }
}

impl Shared {
    async fn ask(&self, mut request: Request<RequestBody>) -> Result<Response<Body>, Error> {
        let to = std::mem::take(request.uri_mut());
        *request.uri_mut() = to
            .path_and_query()
            .cloned()
            .map(Uri::from)
            .unwrap_or_default();
        while let Some(mut lease) = self.pool.take(&to) {
            let since = Instant::now();
            match lease.connection().ask(&request).await {
                Ok(answered) => return Ok(self.answered(answered, lease)),
                Err(unanswered) if !unanswered.was_sent => {}
                Err(unanswered) if was_closed_early(&unanswered) && since.elapsed() < CROSSED => {
                    break;
                }
                Err(unanswered) => return Err(unanswered.error.into()),
            }
        }
        // The future is boxed because it is rare and large: every call would reserve memory for it.
        let connection = Box::pin(self.connect(&to)).await?;
        let mut lease = self.pool.adopt(connection, &to);
        let asked = lease.connection().ask(&request).await;
        if Box::pin(self.wants_tls(&to, &asked)).await {
            return Err(Error::Tls(TlsFault::AnswersTls));
        }
        match asked {
            Ok(answered) => Ok(self.answered(answered, lease)),
            Err(unanswered) if !unanswered.was_sent => {
                Err(Error::Unreachable(unanswered.error.into()))
            }
            Err(unanswered) => Err(unanswered.error.into()),
        }
    }

    /// Returns whether a server that was first contacted without TLS speaks TLS. Checked once per
    /// address.
    async fn wants_tls(&self, to: &Uri, asked: &Result<Answered, Unanswered>) -> bool {
        let Some(authority) = to.authority() else {
            return false;
        };
        let is_known = |known: &HashSet<Authority>| known.contains(authority);
        if is_known(
            &self
                .spoken_to
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        ) {
            return false;
        }
        if is_no_answer(asked) && self.connector.answers_tls(to).await {
            return true;
        }
        self.spoken_to
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(authority.clone());
        false
    }

    async fn connect(&self, to: &Uri) -> Result<Connection, Error> {
        let stream = self
            .connector
            .clone()
            .oneshot(to.clone())
            .await
            .map_err(Error::of_connecting)?;
        Ok(Connection::over(stream))
    }

    fn answered(&self, answered: Answered, lease: Lease) -> Response<Body> {
        let Answered {
            response,
            ahead,
            framing,
        } = answered;
        response.map(|()| Body::new(ahead, framing, lease, self.limits))
    }
}
