//! [`OllamaBody`]: an answer of Ollama's own API, passed on as it arrives.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use loggia_backend::{OllamaPiece, OllamaReply};
use serde_json::json;

use crate::ApiError;
use crate::answer::deadline::Deadline;
use crate::answer::ended::{Ended, Outcome, Progress};
use crate::answer::refusal::Refusals;

/// An answer of Ollama's own API. An error in a stream is a line, as from Ollama. A whole answer
/// breaks off, and the server closes the connection.
pub(crate) struct OllamaBody {
    /// The engine's answer. `None` after its end.
    reply: Option<OllamaReply>,
    is_stream: bool,
    progress: Progress,
    refusals: Refusals,
    deadline: Deadline,
    ended: Option<Box<Ended>>,
}

impl OllamaBody {
    pub(super) fn new(
        reply: OllamaReply,
        progress: Progress,
        refusals: Refusals,
        whole_time: Option<Duration>,
    ) -> Self {
        Self {
            is_stream: reply.is_stream(),
            reply: Some(reply),
            progress,
            refusals,
            deadline: Deadline::within(whole_time),
            ended: None,
        }
    }

    /// Returns whether the answer is a stream of lines.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Returns whether a whole answer broke off.
    pub(crate) fn is_cut_short(&self) -> bool {
        let outcome = self.ended().map(|ended| ended.outcome);
        !self.is_stream && outcome == Some(Outcome::Failed)
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

    /// Ends the answer with an error, and stops the engine. Returns the line for it.
    pub(crate) fn end_with(&mut self, error: &ApiError) -> Bytes {
        self.reply = None;
        self.ended = Some(self.progress.fail(error));
        if !self.is_stream {
            return Bytes::new();
        }
        format!("{}\n", json!({"error": error.error.message})).into()
    }

    /// Returns the next bytes, `None` at the end.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(reply) = &mut self.reply else {
                return Poll::Ready(None);
            };
            let piece = match reply.pieces.poll_next_unpin(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => Some(Err(ready!(self.deadline.poll_error(cx)))),
            };
            match piece {
                Some(Ok(OllamaPiece::Usage(usage))) => self.progress.cost(usage),
                Some(Ok(OllamaPiece::Bytes(bytes))) if bytes.is_empty() => {}
                Some(Ok(OllamaPiece::Bytes(bytes))) => {
                    self.progress.piece();
                    return Poll::Ready(Some(bytes));
                }
                Some(Err(error)) => {
                    let error = self.refusals.fail(error);
                    let line = self.end_with(&error);
                    return Poll::Ready(Some(line).filter(|line| !line.is_empty()));
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
