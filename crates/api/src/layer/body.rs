//! The body of a wrapped service's responses: from the API, or the service's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tower::BoxError;

use crate::Body;

pin_project_lite::pin_project! {
    /// The body of a response of [`OpenAi`](crate::OpenAi): from OpenAI's API, or the wrapped
    /// service's own.
    pub struct EitherBody<R> {
        #[pin]
        either: Either<R>,
    }
}

pin_project_lite::pin_project! {
    #[project = Projected]
    enum Either<R> {
        OpenAi { #[pin] body: Body },
        Inner { #[pin] body: R },
    }
}

impl<R> EitherBody<R> {
    /// Wraps a body of the API.
    pub(crate) fn openai(body: Body) -> Self {
        Self {
            either: Either::OpenAi { body },
        }
    }

    /// Wraps a body of the service.
    pub(crate) fn inner(body: R) -> Self {
        Self {
            either: Either::Inner { body },
        }
    }
}

impl<R> http_body::Body for EitherBody<R>
where
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().either.project() {
            Projected::OpenAi { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Projected::Inner { body } => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.either {
            Either::OpenAi { body } => body.is_end_stream(),
            Either::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.either {
            Either::OpenAi { body } => body.size_hint(),
            Either::Inner { body } => body.size_hint(),
        }
    }
}
