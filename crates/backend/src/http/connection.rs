//! One connection to an engine, which moves only when it is polled.
//!
//! hyper gives a connection and a handle to it, and would have the connection live in a task of its
//! own. Here whoever waits for an answer drives it: nothing is handed from task to task, and all
//! that has come is there at once. With a task of its own each token cost a switch to it and a
//! write to the client (`docs/decisions/0007-runtime.md`).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::connect::Stream;

/// The most bytes that wait, of one connection, for a slow reader; also the most that headers may
/// take.
const READ_BUFFER: usize = 64 << 10;

/// A request that was not answered; with it, where none of it was on its way, the request.
pub(super) type Unanswered = TrySendError<Request<Full<Bytes>>>;

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// None once it has ended.
    driver: Option<Driver>,
}

type Driver = Pin<Box<http1::Connection<Stream, Full<Bytes>>>>;

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

    /// Sends a request and waits for the head of its answer. The body needs to be driven.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Box<Unanswered>> {
        let mut answer = pin!(self.requests.try_send_request(request));
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            // Nobody but the driver can complete the answer: it need not wake anyone.
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .map_err(Box::new)
        })
        .await
    }

    /// Reads what has come and writes what waits. How it ends, bodies and answers hear.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether it can take a request, as far as is known without waiting.
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
