//! [`Fleet`]: several servers with the same models as one backend.
//!
//! Reading order: [`Fleet`], `call.rs` (a call, at one node after the other), `board.rs` (which node
//! gets a call), `breaker.rs` (whether a node may be used), `prefixes.rs` (which node had the
//! beginning of a conversation).
//!
//! A call that fails is made again at another node only before its answer has begun, and only if
//! nothing is done twice: the node could not be reached, is busy or lacks the model. If the
//! connection broke, it is made once more, so that a prompt that ends an engine ends two at most.
//! The models and the loaded models of nodes are asked in the background while there are calls. A
//! node that does not answer is asked until it does.

mod board;
mod breaker;
mod call;
mod prefixes;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use loggia_wire::openai::Model;
use tokio::runtime::Handle;

use self::board::{Board, Outcome};
use self::call::Attempts;
use self::prefixes::{Beginnings, Prefixes};
use crate::backend::one_ready;
use crate::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, OllamaCall, OllamaReply, Phase, Reply, RerankCall, Reranked, TokenCount,
};

/// The age of a node's lists after which they are asked again, in the background.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// How often a node that is not used is asked whether it is back.
const PROBED_EVERY: Duration = Duration::from_millis(500);

/// The time limit for a node's lists.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// Several servers with the same models as one backend. A node is named in
/// [`ServedBy::node`](crate::ServedBy::node).
pub struct Fleet(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    nodes: Vec<Node>,
    board: Mutex<Board>,
    /// After how long without an event a second node is asked, too.
    hedge_after: Option<Duration>,
    runtime: Handle,
}

/// The state of a node, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// The name of the node.
    pub name: Arc<str>,
    /// Whether the node gets calls.
    pub is_used: bool,
    /// The number of calls in flight at the node.
    pub in_flight: usize,
}

struct Node {
    name: Arc<str>,
    backend: Arc<dyn Backend>,
    /// When the node was last asked for its lists.
    asked: Mutex<Option<Instant>>,
    is_asked: AtomicBool,
}

impl Fleet {
    /// Creates the backend `name` of these nodes, with a name for each. All of them must be reached
    /// by this name, because it is in their errors. Tasks run on `runtime`.
    pub fn new(
        name: impl Into<Arc<str>>,
        nodes: impl IntoIterator<Item = (Arc<str>, Arc<dyn Backend>)>,
        runtime: Handle,
    ) -> Self {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|(name, backend)| Node {
                name,
                backend,
                asked: Mutex::default(),
                is_asked: AtomicBool::new(false),
            })
            .collect();
        Self(Arc::new(Shared {
            name: name.into(),
            board: Mutex::new(Board::new(nodes.len())),
            nodes,
            hedge_after: None,
            runtime,
        }))
    }

    /// Sets after how long without an event a call is made at a second node, too. The first one that
    /// begins to answer wins, and the other call is dropped.
    #[must_use]
    pub fn with_hedging(mut self, after: Option<Duration>) -> Self {
        // The value is not shared yet.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.hedge_after = after;
        }
        self
    }

    /// Returns the state of each node.
    pub fn nodes(&self) -> Vec<NodeState> {
        let board = self.0.board();
        let state = |(at, node): (usize, &Node)| NodeState {
            name: Arc::clone(&node.name),
            is_used: !board.is_down(at),
            in_flight: board.in_flight(at),
        };
        self.0.nodes.iter().enumerate().map(state).collect()
    }

    /// Asks the nodes in order for a fact about a model, until one answers.
    fn first<'a, T: Send + 'a>(
        &'a self,
        model: &'a str,
        ask: impl Fn(&'a dyn Backend) -> BoxFuture<'a, Result<T, BackendError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, BackendError>> {
        Box::pin(async move {
            let order = self.0.board().in_order(model);
            let mut first_error = None;
            for at in order {
                match ask(&*self.0.nodes[at].backend).await {
                    Ok(fact) => return Ok(fact),
                    Err(error) => {
                        self.0.note(at, outcome(&error));
                        first_error.get_or_insert(error);
                    }
                }
            }
            Err(first_error.unwrap_or_else(|| self.0.nobody()))
        })
    }
}

/// Returns the evidence of an error about its node.
fn outcome(error: &BackendError) -> Outcome {
    match error {
        BackendError::Unreachable { .. }
        | BackendError::Tls { .. }
        | BackendError::TimedOut {
            phase: Phase::Connect,
            ..
        } => Outcome::Away,
        BackendError::TimedOut { .. }
        | BackendError::BadAnswer { .. }
        | BackendError::CutShort { .. }
        | BackendError::Credentials { .. }
        | BackendError::Unfinished
        | BackendError::Engine { .. } => Outcome::Failed,
        BackendError::Busy { .. }
        | BackendError::RateLimited { .. }
        | BackendError::Overdue { .. } => Outcome::Unknown,
        BackendError::ModelNotFound { .. }
        | BackendError::NoModels
        | BackendError::InvalidRequest { .. }
        | BackendError::ContextLengthExceeded { .. }
        | BackendError::EmptyPrompt
        | BackendError::InputTooLong { .. }
        | BackendError::Unsupported { .. }
        | BackendError::NotDeleted { .. }
        | BackendError::Refused { .. } => Outcome::Answered,
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error if no node may be used.
    fn nobody(&self) -> BackendError {
        BackendError::Unreachable {
            backend: self.name.to_string(),
        }
    }

    /// Notes the result of a call. A node that is no longer used is probed until it is back.
    fn note(self: &Arc<Self>, at: usize, outcome: Outcome) {
        if !self.board().note(at, outcome, Instant::now()) {
            return;
        }
        let (backend, node) = (&*self.name, &*self.nodes[at].name);
        tracing::warn!(backend, node, "a node is not used until it answers again");
        let weak = Arc::downgrade(self);
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(PROBED_EVERY).await;
                let Some(shared) = weak.upgrade() else {
                    return;
                };
                let asked = shared.ask(at).await;
                if asked.is_ok() && !shared.board().is_down(at) {
                    let (backend, node) = (&*shared.name, &*shared.nodes[at].name);
                    tracing::info!(backend, node, "a node answers again");
                    return;
                }
            }
        });
    }

    /// Asks the nodes whose lists are old for new ones, in the background.
    fn ask_if_old(self: &Arc<Self>) {
        for (at, node) in self.nodes.iter().enumerate() {
            let asked = *node.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = asked.is_none_or(|asked| asked.elapsed() >= BELIEVED_FOR);
            if !is_old || self.board().is_down(at) || node.is_asked.swap(true, Ordering::Relaxed) {
                continue;
            }
            let shared = Arc::clone(self);
            self.runtime.spawn(async move {
                if let Err(error) = shared.ask(at).await {
                    shared.note(at, outcome(&error));
                }
                shared.nodes[at].is_asked.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Asks a node for its models and its loaded models.
    async fn ask(&self, at: usize) -> Result<Vec<Model>, BackendError> {
        let node = &self.nodes[at];
        *node.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let asking = async {
            let models = node.backend.models().await?;
            let names = models.iter().map(|model| model.id.clone()).collect();
            self.board().listed(at, names, Instant::now());
            // Optional: without this list, no node is preferred for a loaded model.
            let loaded = node.backend.loaded_models().await.unwrap_or_default();
            self.board()
                .loaded(at, loaded.map(|names| names.into_iter().collect()));
            Ok(models)
        };
        let asked = tokio::time::timeout(LISTED_WITHIN, asking).await;
        asked.unwrap_or_else(|_| {
            Err(BackendError::TimedOut {
                backend: self.name.to_string(),
                phase: Phase::Headers,
                after: LISTED_WITHIN,
            })
        })
    }
}

impl Backend for Fleet {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        self.first(model, move |node| node.abilities(model))
    }

    /// Resolves with the first event, so that a node that fails before it can be replaced.
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let hashing = self.0.board().prefixes.hashing();
            let beginnings = Prefixes::beginnings(&hashing, &call.work);
            let mut attempts = Attempts::new(&self.0, call.work.model(), beginnings);
            let mut hedge_after = self.0.hedge_after;
            // One call, or two while it is hedged.
            let mut running = FuturesUnordered::new();
            running.push(attempts.next()?.begin(call.clone()));
            loop {
                let first = match hedge_after {
                    Some(after) => tokio::time::timeout(after, running.next()).await.ok(),
                    None => Some(running.next().await),
                };
                match first {
                    Some(Some((attempt, Ok((reply, first))))) => {
                        return Ok(attempts.begun(attempt).reply(reply, first));
                    }
                    Some(Some((attempt, Err(error)))) => {
                        let failed = attempts.failed(attempt, error);
                        if running.is_empty() {
                            failed?;
                            running.push(attempts.next()?.begin(call.clone()));
                        }
                    }
                    Some(None) => return Err(self.0.nobody()),
                    None => {
                        hedge_after = None;
                        let other = attempts.another();
                        running.extend(other.map(|other| other.begin(call.clone())));
                    }
                }
            }
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let none = Beginnings::default();
            let mut attempts = Attempts::new(&self.0, &call.work.model, none);
            loop {
                let attempt = attempts.next()?;
                match attempt.backend().embed(call.clone()).await {
                    Ok(mut made) => {
                        made.served_by.node = Some(attempts.begun(attempt).name());
                        return Ok(made);
                    }
                    Err(error) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    /// A node that does not do this is not replaced: the others have the same model.
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let none = Beginnings::default();
            let mut attempts = Attempts::new(&self.0, &call.work.model, none);
            loop {
                let attempt = attempts.next()?;
                match attempt.backend().audio(call.clone()).await {
                    Ok(reply) => {
                        let attempt = attempts.begun(attempt);
                        return Ok(reply.map(|reply| attempt.audio_reply(reply)));
                    }
                    Err(error) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    /// One of the nodes answers, also if the call changes its models.
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move {
            let none = Beginnings::default();
            let model = call.work.model.as_deref().unwrap_or_default();
            let mut attempts = Attempts::new(&self.0, model, none);
            loop {
                let attempt = attempts.next()?;
                match attempt.backend().ollama_api(call.clone()).await {
                    Ok(reply) => {
                        let attempt = attempts.begun(attempt);
                        return Ok(reply.map(|reply| attempt.ollama_reply(reply)));
                    }
                    Err(error) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let none = Beginnings::default();
            let mut attempts = Attempts::new(&self.0, &call.work.model, none);
            loop {
                let attempt = attempts.next()?;
                match attempt.backend().rerank(call.clone()).await {
                    Ok(mut reranked) => {
                        let begun = attempts.begun(attempt);
                        if let Some(reranked) = &mut reranked {
                            reranked.served_by.node = Some(begun.name());
                        }
                        return Ok(reranked);
                    }
                    Err(error) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let none = Beginnings::default();
            let mut attempts = Attempts::new(&self.0, &call.work.model, none);
            loop {
                let attempt = attempts.next()?;
                match attempt.backend().count_tokens(call.clone()).await {
                    Ok(mut count) => {
                        count.served_by.node = Some(attempts.begun(attempt).name());
                        return Ok(count);
                    }
                    Err(error) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    /// Lists the models of the nodes that answer. Fails if none answers.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let shared = &self.0;
            let asked = join_all((0..shared.nodes.len()).map(|at| shared.ask(at))).await;
            let mut listed: Option<Vec<Model>> = None;
            let mut known = HashSet::new();
            let mut first_error = None;
            for (at, answer) in asked.into_iter().enumerate() {
                match answer {
                    Ok(models) => listed.get_or_insert_default().extend(
                        models
                            .into_iter()
                            .filter(|model| known.insert(model.id.clone())),
                    ),
                    Err(error) => {
                        shared.note(at, outcome(&error));
                        first_error.get_or_insert(error);
                    }
                }
            }
            listed.ok_or_else(|| first_error.unwrap_or(BackendError::NoModels))
        })
    }

    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        self.first("", |node| node.loaded_models())
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        self.first(id, move |node| node.model(id))
    }

    /// Deletes the model at all nodes that have it.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let nodes = self.0.nodes.iter();
            let deleted = join_all(nodes.map(|node| node.backend.delete_model(id))).await;
            let is_missing =
                |answer: &Result<_, _>| matches!(answer, Err(BackendError::ModelNotFound { .. }));
            if deleted.iter().all(is_missing) {
                return Err(BackendError::model_not_found(id));
            }
            deleted
                .into_iter()
                .filter(|answer| !is_missing(answer))
                .collect()
        })
    }

    fn is_called(&self, listed: &str, asked: &str) -> bool {
        let first = self.0.nodes.first();
        first.is_some_and(|node| node.backend.is_called(listed, asked))
    }

    /// The fleet is ready if one node is.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(one_ready(
            self.0.nodes.iter().map(|node| node.backend.ready()),
        ))
    }
}
