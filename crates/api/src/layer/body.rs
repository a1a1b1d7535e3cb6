//! The body of a wrapped service's answers: OpenAI's, or the service's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tower::BoxError;

use crate::Body;

pin_project_lite::pin_project! {
    /// OpenAI's answer, or the wrapped service's own.
    #[project = Projected]
    pub enum EitherBody<R> {
        /// Written here.
        OpenAi { #[pin] body: Body },
        /// Passed through.
        Inner { #[pin] body: R },
    }
}

impl<R> http_body::Body for EitherBody<R>
where
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            Projected::OpenAi { body } => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Projected::Inner { body } => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::OpenAi { body } => body.is_end_stream(),
            Self::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::OpenAi { body } => body.size_hint(),
            Self::Inner { body } => body.size_hint(),
        }
    }
}
