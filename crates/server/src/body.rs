//! The body of every answer, whether an OpenAI route or a route of the server itself made it. It
//! reports how the answer ended. If the code of a body panics, the stream ends with an error event.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as OwnBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Ended, Outcome};

use crate::panic;
use crate::shutdown::{self, EndNow};

/// The content of an answer ended early. The connection is closed without the end of the answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut short")]
struct CutShort;

/// The body of an answer.
pub(crate) struct AnswerBody {
    kind: Kind,
    /// Whether a stream must end now.
    end_now: Option<EndNow>,
}

enum Kind {
    Door(loggia_api::Body),
    /// A body that panicked; it is not polled again.
    Panicked(Box<Ended>),
    Own(OwnBody),
}

impl AnswerBody {
    /// Creates the body of an answer that ends when its connection says so.
    pub(crate) fn ending(body: loggia_api::Body, end_now: Option<EndNow>) -> Self {
        let kind = Kind::Door(body);
        Self { kind, end_now }
    }

    /// Returns the account of the answer as if the body were dropped now.
    pub(crate) fn so_far(&self) -> Ended {
        match &self.kind {
            Kind::Door(body) => body.so_far(),
            Kind::Panicked(ended) => Ended::clone(ended),
            Kind::Own(_) => Ended::new(Outcome::Abandoned),
        }
    }

    /// Returns whether the body is a stream of events.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(&self.kind, Kind::Door(body) if body.is_stream())
    }

    /// Returns how the body ended, once it has ended. `None` for bodies of the server's own routes.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.kind {
            Kind::Door(body) => body.ended(),
            Kind::Panicked(ended) => Some(ended),
            Kind::Own(_) => None,
        }
    }
}

impl From<loggia_api::Body> for AnswerBody {
    fn from(body: loggia_api::Body) -> Self {
        Self::ending(body, None)
    }
}

impl From<OwnBody> for AnswerBody {
    fn from(body: OwnBody) -> Self {
        let kind = Kind::Own(body);
        Self {
            kind,
            end_now: None,
        }
    }
}

/// An empty body, for preflights.
impl Default for AnswerBody {
    fn default() -> Self {
        OwnBody::empty().into()
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let is_last = self.end_now.as_ref().is_some_and(EndNow::is_set);
        let body = match &mut self.kind {
            Kind::Door(body) => body,
            Kind::Panicked(_) => return Poll::Ready(None),
            Kind::Own(body) => return Pin::new(body).poll_frame(cx),
        };
        let next = AssertUnwindSafe(|| {
            let next = Pin::new(&mut *body).poll_frame(cx);
            if is_last { end(body, next) } else { next }
        });
        match catch_unwind(next) {
            Ok(Poll::Ready(None)) if body.is_cut_short() => {
                Poll::Ready(Some(Err(axum::Error::new(CutShort))))
            }
            Ok(frame) => {
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Err(_message) => {
                // Only a stream can panic here; a whole answer is already encoded.
                let last = panic::end(body);
                let ended = body.ended().cloned();
                let ended = ended.unwrap_or_else(|| Ended::new(Outcome::Failed));
                self.kind = Kind::Panicked(Box::new(ended));
                Poll::Ready(Some(Ok(Frame::data(last))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Door(body) => body.is_end_stream(),
            Kind::Panicked(_) => true,
            Kind::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Door(body) => body.size_hint(),
            Kind::Panicked(_) => SizeHint::with_exact(0),
            Kind::Own(body) => body.size_hint(),
        }
    }
}

/// The next frame of a body, as `poll_frame` returns it.
type Next = Poll<Option<Result<Frame<Bytes>, Infallible>>>;

/// Ends a stream after its next frame, if there is one.
fn end(body: &mut loggia_api::Body, next: Next) -> Next {
    let Some(last) = body.end_with(&shutdown::error()) else {
        return next;
    };
    let mut bytes = BytesMut::new();
    if let Poll::Ready(Some(Ok(frame))) = next
        && let Some(data) = frame.data_ref()
    {
        bytes.extend_from_slice(data);
    }
    bytes.extend_from_slice(&last);
    Poll::Ready(Some(Ok(Frame::data(bytes.freeze()))))
}
