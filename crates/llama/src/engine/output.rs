//! The output of the engine for one reader, and the engine's side of the channel to it. The engine
//! never waits for the reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loggia_wire::openai::TokenLogprob;
use tokio::sync::mpsc;

use super::score::ScoredPiece;
use crate::error::EngineError;

/// The output that a reader receives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// The request has a slot, and the engine is reading its prompt.
    Reading,
    /// A piece of the answer.
    Piece(Piece),
}

/// More of an answer, in whole characters. The last piece has an `end`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    /// A further part of the scored prompt. It is sent before the answer.
    pub(crate) prompt: Option<ScoredPiece>,
    pub(crate) text: String,
    /// The number of tokens of the answer so far.
    pub(crate) tokens: usize,
    /// The log-probabilities of the tokens whose text has been sent, if they were requested.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// The usage so far. Absent while the prompt is being scored.
    pub(crate) so_far: Option<Usage>,
    /// The stop string that ended the answer.
    pub(crate) stopped_by: Option<String>,
    pub(crate) end: Option<End>,
}

/// Why an answer ended, and its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended the answer, or a stop string was generated.
    Stop,
    /// The answer has the maximum number of tokens that the client allows.
    Length,
    /// The context is full.
    ContextFull,
}

/// The exact token counts of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    /// The number of prompt tokens that were in the cache and did not have to be computed.
    pub(crate) cached: usize,
    /// The number of generated tokens, without the one that ends the answer.
    pub(crate) completion: usize,
}

/// The engine's side of the channel.
#[derive(Debug)]
pub(super) struct OutputSender {
    sender: mpsc::Sender<Result<Output, EngineError>>,
    full: Arc<AtomicBool>,
}

impl OutputSender {
    /// `full` is shared with the reader: if it is set, the reader wakes the engine after it has made
    /// room.
    pub(super) fn new(
        sender: mpsc::Sender<Result<Output, EngineError>>,
        full: Arc<AtomicBool>,
    ) -> Self {
        Self { sender, full }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether there is room for another output. If there is none, the reader wakes the engine as
    /// soon as it makes room.
    pub(super) fn has_room(&self) -> bool {
        self.has_room_for(1)
    }

    /// Whether there is room for this number of outputs, or for all outputs that the channel can
    /// hold if that is less. If there is not, the reader wakes the engine when it makes room.
    pub(super) fn has_room_for(&self, outputs: usize) -> bool {
        let outputs = outputs.min(self.sender.max_capacity());
        if self.sender.capacity() >= outputs {
            return true;
        }
        // The order matters. The reader makes room first and reads this flag afterwards, so either
        // this call sees the room or the reader sees the flag.
        self.full.store(true, Ordering::SeqCst);
        self.sender.capacity() >= outputs
    }

    /// The number of outputs that the channel can hold.
    pub(super) fn max_room(&self) -> usize {
        self.sender.max_capacity()
    }

    /// The number of outputs that there is room for. Unlike [`Self::has_room`], it does not make
    /// the reader wake the engine.
    pub(super) fn room(&self) -> usize {
        self.sender.capacity()
    }

    /// Sends an output without waiting. A step sends one output to each reader, and one more for
    /// each forced token and each accepted draft token; a reader takes part in a step only if there is room for all of
    /// them.
    pub(super) fn send(&self, output: Result<Output, EngineError>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(output) {
            tracing::error!(
                "an output was lost: a slot took part in a step without room for its result"
            );
        }
    }
}
