//! The channel from the engine to one reader. The engine never waits at it; the reader's leaving is
//! heard at it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use loggia_wire::openai::TokenLogprob;
use tokio::sync::mpsc;

use super::inbox::Inbox;
use super::score::ScoredPiece;
use crate::error::EngineError;

/// What a reader gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// The request has a slot, and its prompt is being read.
    Reading,
    /// More of the answer.
    Piece(Piece),
}

/// More of an answer: whole characters only. Nothing follows one that has an end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    /// More of the prompt, where it is scored. It comes before the answer.
    pub(crate) prompt: Option<ScoredPiece>,
    pub(crate) text: String,
    /// How many tokens the answer has by now.
    pub(crate) tokens: usize,
    /// Of the tokens whose text has been released, where asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) end: Option<End>,
}

/// How an answer ended, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model said so, or a stop string came.
    Stop,
    /// It has the most tokens that the client allows.
    Length,
    /// The context is full.
    ContextFull,
}

/// Tokens, counted exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    /// Tokens of the prompt that were in the cache and did not have to be computed.
    pub(crate) cached: usize,
    /// Tokens that were chosen, but for the one with which the model says that it has finished.
    pub(crate) completion: usize,
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: mpsc::Sender<Result<Output, EngineError>>,
    full: Arc<AtomicBool>,
}

/// The reader's end: a stream of outputs. Dropping it gives the slot back, whatever the engine was
/// doing for it.
#[derive(Debug)]
pub(crate) struct Answer {
    receiver: mpsc::Receiver<Result<Output, EngineError>>,
    full: Arc<AtomicBool>,
    inbox: Arc<Inbox>,
    ended: bool,
}

pub(super) fn channel(capacity: usize, inbox: Arc<Inbox>) -> (Outlet, Answer) {
    let (sender, receiver) = mpsc::channel(capacity);
    let full = Arc::new(AtomicBool::new(false));
    (
        Outlet {
            sender,
            full: Arc::clone(&full),
        },
        Answer {
            receiver,
            full,
            inbox,
            ended: false,
        },
    )
}

impl Outlet {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether there is room for another output. Where there is none, the reader rings the bell
    /// when there is.
    pub(super) fn has_room(&self) -> bool {
        if self.sender.capacity() > 0 {
            return true;
        }
        // The order matters: the reader makes room first and looks at this afterwards, so one of
        // the two sees the other.
        self.full.store(true, Ordering::SeqCst);
        self.sender.capacity() > 0
    }

    /// How many outputs there is room for, without a word to the reader.
    pub(super) fn room(&self) -> usize {
        self.sender.capacity()
    }

    /// Sends without waiting. A step sends one output to each reader, and one more for each guess
    /// that was right; it takes part only where there is room for all of them.
    pub(super) fn send(&self, output: Result<Output, EngineError>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(output) {
            tracing::error!(
                "an output was lost: a slot took part in a step without room for its result"
            );
        }
    }
}

impl Stream for Answer {
    type Item = Result<Output, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = match self.receiver.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(received) => received,
        };
        if self.full.swap(false, Ordering::SeqCst) {
            self.inbox.ring();
        }
        match received {
            Some(output) => {
                self.ended |= matches!(
                    &output,
                    Err(_) | Ok(Output::Piece(Piece { end: Some(_), .. }))
                );
                Poll::Ready(Some(output))
            }
            None if self.ended => Poll::Ready(None),
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(EngineError::Stopped)))
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.receiver.close();
        if !self.ended {
            self.inbox.ring();
        }
    }
}
