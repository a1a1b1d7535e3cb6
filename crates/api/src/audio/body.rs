//! [`AudioBody`]: an answer that is passed on as it arrives, speech or events.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use loggia_backend::{AudioPiece, AudioReply};
use loggia_wire::frame::sse;

use super::received::CountedBytes;
use crate::ApiError;
use crate::answer::deadline::Deadline;
use crate::answer::ended::{Ended, Outcome, Progress};
use crate::answer::refusal::Refusals;

/// An answer that is passed on as it arrives. If it consists of events, an error is an event.
/// Otherwise an error breaks the answer off, and the server closes the connection.
pub(crate) struct AudioBody {
    /// The piece that was read before the answer began.
    first: Option<AudioPiece>,
    /// The engine's answer. `None` after its end.
    reply: Option<AudioReply>,
    is_events: bool,
    /// The bytes that are left, if the engine announced the length.
    left: Option<u64>,
    progress: Progress,
    refusals: Refusals,
    deadline: Deadline,
    ended: Option<Box<Ended>>,
    /// The temporary file of the recording counts until the end.
    _counted: Option<CountedBytes>,
}

impl AudioBody {
    pub(super) fn new(
        first: Option<AudioPiece>,
        reply: AudioReply,
        progress: Progress,
        refusals: Refusals,
        whole_time: Option<Duration>,
    ) -> Self {
        Self {
            first,
            is_events: reply.is_events(),
            left: reply.length,
            reply: Some(reply),
            progress,
            refusals,
            deadline: Deadline::within(whole_time),
            ended: None,
            _counted: None,
        }
    }

    /// Holds the count of a temporary file until the end.
    pub(super) fn holding(self, counted: Option<CountedBytes>) -> Self {
        Self {
            _counted: counted,
            ..self
        }
    }

    /// Returns whether the answer consists of events.
    pub(crate) fn is_events(&self) -> bool {
        self.is_events
    }

    /// Returns how the answer ended, after its end.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_deref()
    }

    /// Returns how the answer would have ended if it were dropped now.
    pub(crate) fn so_far(&self) -> Ended {
        match &self.ended {
            Some(ended) => Ended::clone(ended),
            None => *self.progress.end(Outcome::Abandoned),
        }
    }

    /// Returns the number of bytes that are left, if it is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.left.filter(|_| !self.is_events)
    }

    /// Ends the answer with an error, and stops the engine. Returns the event for it.
    pub(crate) fn end_with(&mut self, error: &ApiError) -> Bytes {
        self.reply = None;
        self.ended = Some(self.progress.fail(error));
        let mut event = BytesMut::new();
        if self.is_events {
            // Cannot fail: an error consists of strings.
            let _ = sse::write(&mut event, &error.body());
        }
        event.freeze()
    }

    /// Returns the next bytes, `None` at the end.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let piece = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => match self.reply.as_mut() {
                    None => return Poll::Ready(None),
                    Some(reply) => match reply.pieces.poll_next_unpin(cx) {
                        Poll::Ready(piece) => piece,
                        Poll::Pending => Some(Err(ready!(self.deadline.poll_error(cx)))),
                    },
                },
            };
            match piece {
                Some(Ok(AudioPiece::Usage(usage))) => self.progress.cost(usage),
                Some(Ok(AudioPiece::Bytes(bytes))) if bytes.is_empty() => {}
                Some(Ok(AudioPiece::Bytes(bytes))) => {
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(bytes));
                }
                Some(Err(error)) => {
                    let error = self.refusals.fail(error);
                    let event = self.end_with(&error);
                    return Poll::Ready(Some(event).filter(|event| !event.is_empty()));
                }
                None => {
                    self.reply = None;
                    self.ended = Some(self.progress.end(Outcome::Complete));
                    return Poll::Ready(None);
                }
            }
        }
    }
}
