//! [`Attempts`]: makes a call at one node after the other, as long as that is safe. [`InFlight`]: a
//! call that is in flight at a node, until its answer has ended or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, FuturesUnordered};
use tokio::time::timeout;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::board::Outcome;
use super::node::Node;
use super::prefixes::Beginnings;
use super::{Shared, outcome};
use crate::{AudioReply, Backend, BackendError, Call, Event, OllamaReply, Reply};

/// The pieces of an answer.
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
        let mut state = self.shared.state();
        let chosen = state
            .board
            .choose(self.model, &self.beginnings, &self.tried)?;
        let node = Arc::clone(state.node(chosen)?);
        let is_single = state.is_single;
        drop(state);
        self.tried.push(chosen);
        if !is_single {
            self.shared.ask_if_old();
        }
        Some(InFlight {
            shared: Arc::clone(self.shared),
            node,
            is_single,
            is_noted: is_single,
        })
    }

    /// Asks one node after the other, until one answers. Returns the call that is in flight at that
    /// node, and its answer.
    pub(super) async fn first<T>(
        mut self,
        ask: impl for<'n> Fn(&'n dyn Backend) -> BoxFuture<'n, Result<T, BackendError>>,
    ) -> Result<(InFlight, T), BackendError> {
        loop {
            let attempt = self.next()?;
            match attempt.unless_removed(ask(attempt.backend())).await {
                Ok(answer) => return Ok((self.begun(attempt), answer)),
                Err(error) => self.failed(attempt, error)?,
            }
        }
    }

    /// Makes the call. If no answer has begun after this time, also makes it at a second node, and
    /// takes the answer that begins first.
    ///
    /// # Errors
    /// Fails with the error of the last node if there is no other.
    pub(super) async fn hedged(
        mut self,
        call: &Call,
        after: Duration,
    ) -> Result<Reply, BackendError> {
        let mut patience = Some(after);
        // One call, or two while it is hedged.
        let mut running = FuturesUnordered::new();
        running.push(self.next()?.begin(call.clone()));
        loop {
            let first = match patience {
                Some(after) => timeout(after, running.next()).await.ok(),
                None => Some(running.next().await),
            };
            match first {
                Some(Some((attempt, Ok((reply, first))))) => {
                    return Ok(self.begun(attempt).reply(reply, first));
                }
                Some(Some((attempt, Err(error)))) => {
                    let failed = self.failed(attempt, error);
                    if running.is_empty() {
                        failed?;
                        running.push(self.next()?.begin(call.clone()));
                    }
                }
                Some(None) => return Err(self.shared.nobody()),
                None => {
                    patience = None;
                    let other = self.another();
                    running.extend(other.map(|other| other.begin(call.clone())));
                }
            }
        }
    }

    /// Notes that the node answers.
    pub(super) fn begun(&self, mut call: InFlight) -> InFlight {
        call.is_noted = true;
        let mut state = self.shared.state();
        state
            .board
            .begun(call.node.at, self.model, &self.beginnings);
        drop(state);
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
            BackendError::ModelNotFound { .. }
            | BackendError::Tls { .. }
            | BackendError::NodeRemoved { .. } => true,
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
    node: Arc<Node>,
    /// Whether the fleet has had only one node, whose health is not watched and which is not named.
    is_single: bool,
    /// Whether the result of the call is noted for its node.
    is_noted: bool,
}

impl InFlight {
    /// Starts the call, and waits for the first event. Also returns itself. A single node is not
    /// waited for: no other could replace it.
    pub(super) async fn begin(
        self,
        call: Call,
    ) -> (Self, Result<(Reply, Option<Event>), BackendError>) {
        let begun = async {
            let mut reply = self.backend().start(call).await?;
            let first = if self.is_single {
                None
            } else {
                reply.first_word().await?
            };
            Ok((reply, first))
        };
        let begun = self.unless_removed(begun).await;
        (self, begun)
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.node.backend
    }

    /// Waits for the node until it is removed.
    async fn unless_removed<T>(
        &self,
        answer: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let answered = self.node.removal.run_until_cancelled(answer).await;
        answered.unwrap_or_else(|| Err(removed(&self.shared)))
    }

    /// Returns the name of the node, if it has one for clients.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        (!self.is_single).then(|| Arc::clone(&self.node.name))
    }

    fn note(&mut self, outcome: Outcome) {
        self.is_noted = true;
        self.shared.note(&self.node, outcome);
    }

    /// Returns the reply whose first event was `first`. The call is in flight until the reply has
    /// ended or is dropped.
    pub(super) fn reply(self, mut reply: Reply, first: Option<Event>) -> Reply {
        reply.served_by.node = self.name();
        reply.events = self.answer(first, reply.events);
        reply
    }

    /// Returns the reply of a node that hears or speaks. The call is in flight until the reply has
    /// ended or is dropped.
    pub(super) fn audio_reply(self, mut reply: AudioReply) -> AudioReply {
        reply.served_by.node = self.name();
        reply.pieces = self.answer(None, reply.pieces);
        reply
    }

    /// Returns the reply of a node to a call of Ollama's own API. The call is in flight until the
    /// reply has ended or is dropped.
    pub(super) fn ollama_reply(self, mut reply: OllamaReply) -> OllamaReply {
        reply.served_by.node = self.name();
        reply.pieces = self.answer(None, reply.pieces);
        reply
    }

    fn answer<P: Send + Unpin + 'static>(self, first: Option<P>, pieces: Pieces<P>) -> Pieces<P> {
        Box::pin(Answer {
            first,
            pieces,
            removal: Box::pin(self.node.removal.clone().cancelled_owned()),
            call: Some(self),
        })
    }
}

/// The error of a call whose node was removed.
fn removed(shared: &Shared) -> BackendError {
    BackendError::NodeRemoved {
        backend: shared.name.to_string(),
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_noted {
            self.shared.note(&self.node, Outcome::Unknown);
        }
        let mut state = self.shared.state();
        if state.board.ended(self.node.at) {
            state.nodes.retain(|node| node.at != self.node.at);
        }
    }
}

/// The pieces of an answer that has begun. The call notes their error. They end with an error if the
/// node is removed.
struct Answer<P> {
    first: Option<P>,
    pieces: Pieces<P>,
    removal: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The running call. `None` if the answer has ended.
    call: Option<InFlight>,
}

impl<P: Unpin> Stream for Answer<P> {
    type Item = Result<P, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let this = &mut *self;
        let Some(call) = &mut this.call else {
            return Poll::Ready(None);
        };
        // An engine that always has a piece ready does not hide the removal. All answers of the node
        // share the lock of `removal`, so it is waited for only if there is no piece.
        let next = if call.node.is_removed() {
            Some(Err(removed(&call.shared)))
        } else if let Poll::Ready(next) = this.pieces.poll_next_unpin(cx) {
            next
        } else {
            std::task::ready!(this.removal.as_mut().poll(cx));
            Some(Err(removed(&call.shared)))
        };
        if let Some(Err(error)) = &next {
            call.note(outcome(error));
        }
        if !matches!(next, Some(Ok(_))) {
            this.call = None;
        }
        Poll::Ready(next)
    }
}
