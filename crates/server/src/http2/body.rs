//! The body of an answer, in pieces that are small enough for a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use crate::account::AccountedBody;

use super::activity::{Activity, Running, Unsent};
use super::streams::Reader;

/// The largest piece. hyper keeps one for each stream until the client has room for it.
const PIECE: usize = 16 << 10;

/// The body of an answer on a stream. It notes when a piece waits for the client.
pub(super) struct StreamBody {
    body: AccountedBody,
    /// What is left of a large piece.
    rest: Bytes,
    /// Whether a part of that piece was taken.
    is_cut: bool,
    activity: Arc<Activity>,
    reader: Arc<Reader>,
    _running: Option<Running>,
}

impl StreamBody {
    /// Creates the body of the stream in whose task this is called.
    pub(super) fn new(
        body: AccountedBody,
        activity: Arc<Activity>,
        running: Option<Running>,
    ) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            is_cut: false,
            activity,
            reader: Reader::of_this_stream(),
            _running: running,
        }
    }

    /// Takes the next piece of what is left. A piece of a large answer is a copy, so that it does not
    /// keep the whole answer in memory while it waits.
    fn next_piece(&mut self) -> Bytes {
        if !self.is_cut && self.rest.len() <= PIECE {
            return std::mem::take(&mut self.rest);
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.is_cut = !self.rest.is_empty();
        Bytes::copy_from_slice(&piece)
    }
}

impl Body for StreamBody {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        self.reader.take();
        let mut bytes = self.next_piece();
        if bytes.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(other) => {
                    let other = other.into_trailers().unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::trailers(other))));
                }
            }
            bytes = self.next_piece();
        }
        self.reader.offer();
        Poll::Ready(Some(Ok(Frame::data(Piece {
            bytes,
            _unsent: self.activity.send(),
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// A piece of an answer, which counts as unsent until it is dropped.
pub(super) struct Piece {
    bytes: Bytes,
    _unsent: Unsent,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
