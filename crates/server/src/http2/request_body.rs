//! The body of a request. What the app has not read is read and thrown away, for a while.
//!
//! An answer may be sent before the request was read completely (413). A server may then reset the
//! stream without an error, but many clients lose the answer if it does while they still send. With
//! HTTP/1.1, `linger.rs` is for the same.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::linger::{LINGER, LINGER_PAUSE};

/// The body of a request.
pub(crate) struct RequestBody(Option<Incoming>);

impl RequestBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(timeout(LINGER, throw_away(body)));
        }
    }
}

/// Reads a body until it ends, or its client pauses.
async fn throw_away(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = timeout(LINGER_PAUSE, body.frame()).await {}
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
