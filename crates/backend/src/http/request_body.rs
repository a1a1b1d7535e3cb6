//! The bodies of requests: bytes, or a form with a file that is read as it is sent.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};

use super::form::Form;

/// The body of a request. A clone begins at the beginning, so that a request can be sent again.
pub struct RequestBody(Kind);

enum Kind {
    /// A body in memory. `None` after it was sent.
    Whole(Option<Bytes>),
    Form {
        form: Form,
        /// The pieces of the form. `None` before the first is sent. The mutex is never locked: it
        /// makes requests `Sync`, which futures that borrow them need.
        pieces: Option<Mutex<BoxStream<'static, io::Result<Bytes>>>>,
        left: u64,
    },
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

impl From<Form> for RequestBody {
    fn from(form: Form) -> Self {
        Self(Kind::Form {
            left: form.length(),
            pieces: None,
            form,
        })
    }
}

impl Clone for RequestBody {
    fn clone(&self) -> Self {
        match &self.0 {
            Kind::Whole(bytes) => Self(Kind::Whole(bytes.clone())),
            Kind::Form { form, .. } => Self::from(form.clone()),
        }
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestBody(…)")
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Form { form, pieces, left } => {
                let pieces = pieces.get_or_insert_with(|| Mutex::new(form.pieces()));
                let pieces = pieces.get_mut().unwrap_or_else(PoisonError::into_inner);
                let next = ready!(pieces.poll_next_unpin(cx));
                if let Some(Ok(piece)) = &next {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                Poll::Ready(next.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Form { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Form { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
