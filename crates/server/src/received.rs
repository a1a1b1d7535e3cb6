//! The body of a request, wherever the request came from. One type for all of them, so that the API
//! is compiled once.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as OtherBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http2::RequestBody as Http2Body;

/// The body of a request.
pub(crate) enum ReceivedBody {
    Http1(Incoming),
    Http2(Http2Body),
    /// The body of a line of a batch, or of a request that a program makes itself.
    Other(OtherBody),
}

impl From<Incoming> for ReceivedBody {
    fn from(body: Incoming) -> Self {
        Self::Http1(body)
    }
}

impl From<Http2Body> for ReceivedBody {
    fn from(body: Http2Body) -> Self {
        Self::Http2(body)
    }
}

impl From<OtherBody> for ReceivedBody {
    fn from(body: OtherBody) -> Self {
        Self::Other(body)
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Http1(body) => wrapped(Pin::new(body).poll_frame(cx)),
            Self::Http2(body) => wrapped(Pin::new(body).poll_frame(cx)),
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// Gives the error of a frame the type that all bodies share.
fn wrapped<E>(
    frame: Poll<Option<Result<Frame<Bytes>, E>>>,
) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    frame.map(|frame| frame.map(|frame| frame.map_err(axum::Error::new)))
}
