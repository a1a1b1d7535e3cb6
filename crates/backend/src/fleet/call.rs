//! [`Attempts`]: makes a call at one node after the other, as long as that is safe. [`InFlight`]: a
//! call that is in flight at a node, until its answer has ended or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::board::Outcome;
use super::prefixes::Beginnings;
use super::{Shared, outcome};
use crate::{AudioReply, Backend, BackendError, Call, Event, Events, OllamaReply, Reply};

/// The pieces of an answer that is not a chat.
type Pieces<P> = BoxStream<'static, Result<P, BackendError>>;

/// Makes a call at the best node, and then at others as long as that is safe.
pub(super) struct Attempts<'a> {
    shared: &'a Arc<Shared>,
    model: &'a str,
    beginnings: Beginnings,
    tried: Vec<usize>,
    /// Whether the connection broke at a node.
    was_cut_short: bool,
    last_error: Option<BackendError>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, model: &'a str, beginnings: Beginnings) -> Self {
        Self {
            shared,
            model,
            beginnings,
            tried: Vec::new(),
            was_cut_short: false,
            last_error: None,
        }
    }

    /// Chooses the next node.
    ///
    /// # Errors
    /// Fails with the error of the last node if there is no other.
    pub(super) fn next(&mut self) -> Result<InFlight, BackendError> {
        let chosen = self.another();
        chosen.ok_or_else(|| {
            let last_error = self.last_error.take();
            last_error.unwrap_or_else(|| self.shared.nobody())
        })
    }

    /// Chooses the next node, if there is one.
    pub(super) fn another(&mut self) -> Option<InFlight> {
        let at = self
            .shared
            .board()
            .choose(self.model, &self.beginnings, &self.tried)?;
        self.tried.push(at);
        self.shared.ask_if_old();
        Some(InFlight {
            shared: Arc::clone(self.shared),
            at,
            is_noted: false,
        })
    }

    /// Notes that the node answers.
    pub(super) fn begun(&self, mut call: InFlight) -> InFlight {
        call.is_noted = true;
        let mut board = self.shared.board();
        board.begun(call.at, self.model, &self.beginnings);
        drop(board);
        call
    }

    /// Notes that the node failed before its answer began.
    ///
    /// # Errors
    /// Fails with this error if the call must not be made at another node.
    pub(super) fn failed(
        &mut self,
        mut call: InFlight,
        error: BackendError,
    ) -> Result<(), BackendError> {
        call.note(outcome(&error));
        let is_safe = match &error {
            BackendError::CutShort { .. } => !std::mem::replace(&mut self.was_cut_short, true),
            BackendError::ModelNotFound { .. } | BackendError::Tls { .. } => true,
            other => other.may_try_again(),
        };
        if !is_safe {
            return Err(error);
        }
        self.last_error = Some(error);
        Ok(())
    }
}

/// A call that is in flight at a node.
pub(super) struct InFlight {
    shared: Arc<Shared>,
    at: usize,
    /// Whether the result of the call is noted for its node.
    is_noted: bool,
}

impl InFlight {
    /// Starts the call, and waits for the first event. Also returns itself.
    pub(super) async fn begin(
        self,
        call: Call,
    ) -> (Self, Result<(Reply, Option<Event>), BackendError>) {
        let begun = async {
            let mut reply = self.backend().start(call).await?;
            let first = reply.first_word().await?;
            Ok((reply, first))
        };
        let begun = begun.await;
        (self, begun)
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.shared.nodes[self.at].backend
    }

    /// Returns the name of the node.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.shared.nodes[self.at].name)
    }

    fn note(&mut self, outcome: Outcome) {
        self.is_noted = true;
        self.shared.note(self.at, outcome);
    }

    /// Returns the reply whose first event was `first`. The call is in flight until the reply has
    /// ended or is dropped.
    pub(super) fn reply(self, mut reply: Reply, first: Option<Event>) -> Reply {
        reply.served_by.node = Some(self.name());
        reply.events = Box::pin(Answer {
            first,
            events: reply.events,
            call: Some(self),
        });
        reply
    }

    /// Returns the reply of a node that hears or speaks. The call is in flight until the reply has
    /// ended or is dropped.
    pub(super) fn audio_reply(self, mut reply: AudioReply) -> AudioReply {
        reply.served_by.node = Some(self.name());
        reply.pieces = self.pieces(reply.pieces);
        reply
    }

    /// Returns the reply of a node to a call of Ollama's own API. The call is in flight until the
    /// reply has ended or is dropped.
    pub(super) fn ollama_reply(self, mut reply: OllamaReply) -> OllamaReply {
        reply.served_by.node = Some(self.name());
        reply.pieces = self.pieces(reply.pieces);
        reply
    }

    /// Returns the pieces of an answer. The call notes their error, and is in flight until they
    /// have ended or are dropped.
    fn pieces<P: 'static>(mut self, pieces: Pieces<P>) -> Pieces<P> {
        pieces
            .inspect(move |piece| {
                if let Err(error) = piece {
                    self.note(outcome(error));
                }
            })
            .boxed()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_noted {
            self.shared.note(self.at, Outcome::Unknown);
        }
        self.shared.board().ended(self.at);
    }
}

/// The events of an answer that has begun.
struct Answer {
    first: Option<Event>,
    events: Events,
    /// The running call. `None` if the answer has ended.
    call: Option<InFlight>,
}

impl Stream for Answer {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.call.is_none() {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.events.poll_next_unpin(cx));
        if let Some(Err(error)) = &next
            && let Some(call) = &mut self.call
        {
            call.note(outcome(error));
        }
        if !matches!(next, Some(Ok(_))) {
            self.call = None;
        }
        Poll::Ready(next)
    }
}
