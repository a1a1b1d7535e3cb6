//! A connection to an engine that is driven by polling.
//!
//! hyper returns a connection and a handle, and expects a separate task for the connection. Here
//! the task that waits for the answer drives the connection, so there is no switch between tasks
//! and all received data is available at once. A separate task would cost one switch and one write
//! to the client per token (`docs/decisions/0007-runtime.md`).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::RequestBody;
use super::connect::Stream;

/// The maximum number of bytes buffered per connection for a slow reader, and the maximum size of
/// the headers.
const READ_BUFFER: usize = 64 << 10;

/// The error of a request without a response. It contains the request if nothing of it was sent.
pub(super) type Unanswered = TrySendError<Request<RequestBody>>;

/// A connection to an engine. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    requests: http1::SendRequest<RequestBody>,
    /// The task that drives the connection. `None` after the connection has ended.
    driver: Option<Driver>,
}

type Driver = Pin<Box<http1::Connection<Stream, RequestBody>>>;

impl Connection {
    pub(super) async fn over(stream: Stream) -> Result<Self, hyper::Error> {
        let (requests, driver) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(stream)
            .await?;
        Ok(Self {
            requests,
            driver: Some(Box::pin(driver)),
        })
    }

    /// Sends a request and waits for the head of the response. The body must be driven.
    pub(super) async fn ask(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Box<Unanswered>> {
        let mut answer = pin!(self.requests.try_send_request(request));
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            // Only the driver can complete the answer, so it need not wake a task.
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .map_err(Box::new)
        })
        .await
    }

    /// Reads available data and writes pending data. Bodies and responses report how the connection
    /// ends.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Returns whether the connection can take a request, as far as known without waiting.
    pub(super) fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.requests.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(moving) = driver
        && let Poll::Ready(_heard_elsewhere) = moving.as_mut().poll(cx)
    {
        *driver = None;
    }
}
