//! The body of every answer, whether an OpenAI route or a route of the server itself made it. It
//! reports how the answer ended. If the code of a body panics, the stream ends with an error event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as OwnBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Ended, Outcome};

use crate::panic;

/// The body of an answer.
pub(crate) struct AnswerBody(Kind);

enum Kind {
    Door(loggia_api::Body),
    /// A body that panicked; it is not polled again.
    Panicked(Box<Ended>),
    Own(OwnBody),
}

impl AnswerBody {
    /// Returns what would be known of the answer if the body were dropped now.
    pub(crate) fn so_far(&self) -> Ended {
        match &self.0 {
            Kind::Door(body) => body.so_far(),
            Kind::Panicked(ended) => Ended::clone(ended),
            Kind::Own(_) => Ended::new(Outcome::Abandoned),
        }
    }

    /// Returns how the body ended, once it has ended. `None` for bodies of the server's own routes.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.0 {
            Kind::Door(body) => body.ended(),
            Kind::Panicked(ended) => Some(ended),
            Kind::Own(_) => None,
        }
    }
}

impl From<loggia_api::Body> for AnswerBody {
    fn from(body: loggia_api::Body) -> Self {
        Self(Kind::Door(body))
    }
}

impl From<OwnBody> for AnswerBody {
    fn from(body: OwnBody) -> Self {
        Self(Kind::Own(body))
    }
}

/// An empty body, for preflights.
impl Default for AnswerBody {
    fn default() -> Self {
        Self(Kind::Own(OwnBody::empty()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = match &mut self.0 {
            Kind::Door(body) => body,
            Kind::Panicked(_) => return Poll::Ready(None),
            Kind::Own(body) => return Pin::new(body).poll_frame(cx),
        };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx))) {
            Ok(frame) => {
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Err(_message) => {
                // Only a stream can panic here; a whole answer is already encoded.
                let last = panic::end(body);
                let ended = body.ended().cloned();
                let ended = ended.unwrap_or_else(|| Ended::new(Outcome::Failed));
                self.0 = Kind::Panicked(Box::new(ended));
                Poll::Ready(Some(Ok(Frame::data(last))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Door(body) => body.is_end_stream(),
            Kind::Panicked(_) => true,
            Kind::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Door(body) => body.size_hint(),
            Kind::Panicked(_) => SizeHint::with_exact(0),
            Kind::Own(body) => body.size_hint(),
        }
    }
}
