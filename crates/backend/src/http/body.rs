//! The body of a response, with a limit on the time between two pieces.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

use super::error::Broken;
use super::framing::Framing;
use super::pool::Lease;
use super::{Error, Limits};
use crate::Phase;

/// The body of a response. After an error no more data follows, and the connection is closed.
#[derive(Debug)]
pub struct Body {
    open: Option<Open>,
    limits: Limits,
    began: bool,
    /// The time since which no data has arrived.
    silent_since: Option<Instant>,
    /// The timer for silence. It is created when the body first waits for data, which most complete
    /// answers never do, and rescheduled only when it fires or is too late, not for every frame.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// A body that has not ended, and its connection.
#[derive(Debug)]
struct Open {
    /// Data that arrived with the head.
    ahead: Bytes,
    /// How the rest of the body ends.
    framing: Framing,
    lease: Lease,
}

impl Open {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.ahead.is_empty() {
            self.lease.connection().poll_data(&mut self.framing, cx)
        } else {
            Poll::Ready(Ok(Some(std::mem::take(&mut self.ahead))))
        }
    }

    fn is_done(&self) -> bool {
        self.ahead.is_empty() && self.framing.is_done()
    }
}

impl Body {
    pub(super) fn new(ahead: Bytes, framing: Framing, lease: Lease, limits: Limits) -> Self {
        Self {
            open: Some(Open {
                ahead,
                framing,
                lease,
            }),
            limits,
            began: false,
            silent_since: None,
            alarm: None,
        }
    }

    /// Returns the connection to the pool after the end of the body.
    fn let_go(&mut self) {
        if let Some(open) = self.open.take() {
            open.lease.give_back();
        }
    }

    fn limit(&self) -> (Phase, Duration) {
        if self.began {
            (Phase::Idle, self.limits.idle)
        } else {
            (Phase::Headers, self.limits.headers)
        }
    }

    /// Resolves when no data has arrived for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let (phase, after) = self.limit();
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let Some(deadline) = since.checked_add(after) else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(Error::TimedOut { phase, after });
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(open) = &mut self.open else {
            return Poll::Ready(None);
        };
        let error = match open.poll_data(cx) {
            Poll::Ready(Ok(Some(data))) => {
                self.began = true;
                self.silent_since = None;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Ready(Ok(None)) => {
                self.let_go();
                return Poll::Ready(None);
            }
            Poll::Ready(Err(error)) => error.into(),
            Poll::Pending => ready!(self.poll_silence(cx)),
        };
        self.open = None;
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(Open::is_done)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(open) = &self.open else {
            return SizeHint::with_exact(0);
        };
        let ahead = open.ahead.len() as u64;
        match open.framing.left() {
            Some(left) => SizeHint::with_exact(left.saturating_add(ahead)),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    /// The connection is returned to the pool here too, because a reader that knows the length need
    /// not read the end of the body.
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.let_go();
        }
    }
}

/// Reads a complete body of up to `limit` bytes. A body that arrives in one piece is not copied.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        if first.len().max(joined.len()) + piece.len() > limit {
            return Err(Error::TooLong { limit });
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if joined.is_empty() {
            let expected = usize::try_from(body.size_hint().lower())
                .unwrap_or(limit)
                .min(limit);
            joined.reserve(first.len() + piece.len() + expected);
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}
