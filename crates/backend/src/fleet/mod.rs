//! [`Fleet`]: several servers with the same models as one backend.
//!
//! Reading order: [`Fleet`], `call.rs` (a call, at one node after the other), `node.rs` (a node),
//! `board.rs` (which node gets a call), `breaker.rs` (whether a node may be used), `prefixes.rs`
//! (which node had the beginning of a conversation).
//!
//! A call that fails is made again at another node only before its answer has begun, and only if
//! nothing is done twice: the node could not be reached, is busy or lacks the model. If the
//! connection broke, it is made once more, so that a prompt that ends an engine ends two at most.
//! The models and the loaded models of nodes are asked in the background while there are calls. A
//! node that does not answer is asked until it does.
//!
//! Nodes come and go while calls run: a node that is drained ends its calls and gets no more, and the
//! calls of a node that is removed end with an error, or are made elsewhere if no answer has begun.

mod board;
mod breaker;
mod call;
mod node;
mod prefixes;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use loggia_wire::openai::Model;
use tokio::runtime::Handle;

use self::board::{Board, Outcome};
use self::call::Attempts;
use self::node::Node;
use self::prefixes::{Beginnings, Prefixes};
use crate::backend::one_ready;
use crate::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, OllamaCall, OllamaReply, Phase, Reply, RerankCall, Reranked, TokenCount,
};

/// How often a node that is not used is asked whether it is back.
const PROBED_EVERY: Duration = Duration::from_millis(500);

/// The time limit for a node's lists.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// Several servers with the same models as one backend. Clones share it. A node is named in
/// [`ServedBy::node`](crate::ServedBy::node), by the lowest number that no other node has.
///
/// A fleet that has had only one node passes calls on: it does not watch the health of the node, and
/// does not name it.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    state: Mutex<State>,
    runtime: Handle,
}

struct State {
    nodes: Vec<Arc<Node>>,
    board: Board,
    /// Whether there has been only one node.
    is_single: bool,
    /// After how long without an event a second node is asked, too.
    hedge_after: Option<Duration>,
}

/// The state of a node, for metrics and operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// The name of the node.
    pub name: Arc<str>,
    /// The location of the node.
    pub place: Arc<str>,
    /// Whether the node gets calls. `None` if its health is not watched, because it is the only node.
    pub is_used: Option<bool>,
    /// Whether the node is removed when its calls have ended.
    pub is_draining: bool,
    /// The number of calls in flight at the node.
    pub in_flight: usize,
}

impl Fleet {
    /// Creates the backend `name`, without nodes. All nodes must be reached by this name, because it
    /// is in their errors. Tasks run on `runtime`.
    pub fn new(name: impl Into<Arc<str>>, runtime: Handle) -> Self {
        Self(Arc::new(Shared {
            name: name.into(),
            state: Mutex::new(State {
                nodes: Vec::new(),
                board: Board::default(),
                is_single: true,
                hedge_after: None,
            }),
            runtime,
        }))
    }

    /// Names and watches the nodes also while there is only one.
    pub fn watch_nodes(&self) {
        self.0.state().is_single = false;
    }

    /// Sets after how long without an event a call is made at a second node, too. The first one that
    /// begins to answer wins, and the other call is dropped.
    pub fn hedge_after(&self, after: Option<Duration>) {
        self.0.state().hedge_after = after;
    }

    /// Adds a node at this place.
    pub fn add(&self, place: impl Into<Arc<str>>, backend: Arc<dyn Backend>) {
        let mut state = self.0.state();
        let at = state.board.add();
        let is_free = |name: &String| state.nodes.iter().all(|node| *node.name != **name);
        // One of them is free.
        let mut names = (1..=state.nodes.len() + 1).map(|number| number.to_string());
        let name = names.find(is_free).unwrap_or_default();
        let node = Node::new(at, name.into(), place.into(), backend);
        state.nodes.push(Arc::new(node));
        state.is_single &= state.nodes.len() == 1;
    }

    /// Lets the nodes at this place end their calls and get no more. Each is removed after its last
    /// call. Returns whether there was one.
    pub fn drain(&self, place: &str) -> bool {
        let mut state = self.0.state();
        let at: Vec<usize> = state.at(place).map(|node| node.at).collect();
        let mut is_one = false;
        for at in at {
            is_one |= !state.board.is_draining(at);
            if state.board.drain(at) {
                state.nodes.retain(|node| node.at != at);
            }
        }
        is_one
    }

    /// Removes the nodes at this place at once, those that are drained too: their answers end with an
    /// error, and calls whose answer has not begun are made elsewhere. Returns whether there was one.
    pub fn remove(&self, place: &str) -> bool {
        let mut state = self.0.state();
        let removed: Vec<_> = state.at(place).cloned().collect();
        for node in &removed {
            state.board.remove(node.at);
            state.nodes.retain(|other| other.at != node.at);
        }
        drop(state);
        for node in &removed {
            node.remove();
        }
        !removed.is_empty()
    }

    /// Returns the state of each node.
    pub fn nodes(&self) -> Vec<NodeState> {
        let state = self.0.state();
        let board = &state.board;
        let shown = state.nodes.iter().map(|node| NodeState {
            name: Arc::clone(&node.name),
            place: Arc::clone(&node.place),
            is_used: (!state.is_single)
                .then(|| !board.is_down(node.at) && !board.is_draining(node.at)),
            is_draining: board.is_draining(node.at),
            in_flight: board.in_flight(node.at),
        });
        shown.collect()
    }

    /// Asks the nodes in order for a fact about a model, until one answers.
    fn first<'a, T: Send + 'a>(
        &'a self,
        model: &'a str,
        ask: impl for<'n> Fn(&'n dyn Backend, &'n str) -> BoxFuture<'n, Result<T, BackendError>>
        + Send
        + 'a,
    ) -> BoxFuture<'a, Result<T, BackendError>> {
        Box::pin(async move {
            let mut first_error = None;
            for node in self.0.in_order(model) {
                match ask(&*node.backend, model).await {
                    Ok(fact) => return Ok(fact),
                    Err(error) => {
                        self.0.note(&node, outcome(&error));
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
        | BackendError::NodeRemoved { .. }
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

impl State {
    /// Returns the nodes at a place.
    fn at<'a>(&'a self, place: &str) -> impl Iterator<Item = &'a Arc<Node>> {
        self.nodes.iter().filter(move |node| *node.place == *place)
    }

    fn node(&self, at: usize) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.at == at)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the nodes that get calls, in the order in which facts about a model are asked.
    fn in_order(&self, model: &str) -> Vec<Arc<Node>> {
        let state = self.state();
        let order = state.board.in_order(model).into_iter();
        order.filter_map(|at| state.node(at).cloned()).collect()
    }

    /// The error if no node may be used.
    fn nobody(&self) -> BackendError {
        BackendError::Unreachable {
            backend: self.name.to_string(),
        }
    }

    /// Notes the result of a call. A node that is no longer used is probed until it is back.
    fn note(self: &Arc<Self>, node: &Arc<Node>, outcome: Outcome) {
        let mut state = self.state();
        if state.is_single || !state.board.note(node.at, outcome, Instant::now()) {
            return;
        }
        drop(state);
        let backend = &*self.name;
        tracing::warn!(
            backend,
            node = &*node.name,
            place = &*node.place,
            "a node is not used until it answers again"
        );
        let (weak, node) = (Arc::downgrade(self), Arc::clone(node));
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(PROBED_EVERY).await;
                let Some(shared) = weak.upgrade() else {
                    return;
                };
                let asked = shared.ask(&node).await;
                let board = &shared.state().board;
                if !board.has(node.at) {
                    return;
                }
                if asked.is_ok() && !board.is_down(node.at) {
                    tracing::info!(
                        backend = &*shared.name,
                        node = &*node.name,
                        place = &*node.place,
                        "a node answers again"
                    );
                    return;
                }
            }
        });
    }

    /// Asks the nodes whose lists are old for new ones, in the background.
    fn ask_if_old(self: &Arc<Self>) {
        let state = self.state();
        let is_up = |node: &&Arc<Node>| !state.board.is_down(node.at);
        let up = state.nodes.iter().filter(is_up);
        let old: Vec<_> = up.filter(|node| node.begins_to_ask()).cloned().collect();
        drop(state);
        for node in old {
            let shared = Arc::clone(self);
            self.runtime.spawn(async move {
                if let Err(error) = shared.ask(&node).await {
                    shared.note(&node, outcome(&error));
                }
                node.is_asked.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Asks a node for its models and its loaded models.
    async fn ask(&self, node: &Node) -> Result<Vec<Model>, BackendError> {
        *node.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let asking = async {
            let models = node.backend.models().await?;
            let names = models.iter().map(|model| model.id.clone()).collect();
            self.state().board.listed(node.at, names, Instant::now());
            // Optional: without this list, no node is preferred for a loaded model.
            let loaded = node.backend.loaded_models().await.unwrap_or_default();
            let loaded = loaded.map(|names| names.into_iter().collect());
            self.state().board.loaded(node.at, loaded);
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
        self.first(model, |node, model| node.abilities(model))
    }

    /// Resolves with the first event, so that a node that fails before it can be replaced.
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let (hashing, hedge_after) = {
                let state = self.0.state();
                let hashing = (!state.is_single).then(|| state.board.prefixes.hashing());
                (hashing, state.hedge_after)
            };
            let beginnings = hashing.map(|hashing| Prefixes::beginnings(&hashing, &call.work));
            let beginnings = beginnings.unwrap_or_default();
            let mut attempts = Attempts::new(&self.0, call.work.model(), beginnings);
            if let Some(after) = hedge_after {
                // Boxed, because this is rarer: every call would reserve the memory for it.
                return Box::pin(attempts.hedged(&call, after)).await;
            }
            loop {
                match attempts.next()?.begin(call.clone()).await {
                    (attempt, Ok((reply, first))) => {
                        return Ok(attempts.begun(attempt).reply(reply, first));
                    }
                    (attempt, Err(error)) => attempts.failed(attempt, error)?,
                }
            }
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let attempts = Attempts::new(&self.0, &call.work.model, Beginnings::default());
            let (begun, mut made) = attempts.first(|node| node.embed(call.clone())).await?;
            made.served_by.node = begun.name();
            Ok(made)
        })
    }

    /// A node that does not do this is not replaced: the others have the same model.
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let attempts = Attempts::new(&self.0, &call.work.model, Beginnings::default());
            let (begun, reply) = attempts.first(|node| node.audio(call.clone())).await?;
            Ok(reply.map(|reply| begun.audio_reply(reply)))
        })
    }

    /// One of the nodes answers, also if the call changes its models.
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move {
            let model = call.work.model.as_deref().unwrap_or_default();
            let attempts = Attempts::new(&self.0, model, Beginnings::default());
            let (begun, reply) = attempts.first(|node| node.ollama_api(call.clone())).await?;
            Ok(reply.map(|reply| begun.ollama_reply(reply)))
        })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let attempts = Attempts::new(&self.0, &call.work.model, Beginnings::default());
            let (begun, mut reranked) = attempts.first(|node| node.rerank(call.clone())).await?;
            if let Some(reranked) = &mut reranked {
                reranked.served_by.node = begun.name();
            }
            Ok(reranked)
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let attempts = Attempts::new(&self.0, &call.work.model, Beginnings::default());
            let (begun, mut count) = attempts
                .first(|node| node.count_tokens(call.clone()))
                .await?;
            count.served_by.node = begun.name();
            Ok(count)
        })
    }

    /// Lists the models of the nodes that answer. Fails if none answers.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let shared = &self.0;
            let nodes = shared.in_order("");
            if let [only] = &nodes[..]
                && shared.state().is_single
            {
                return only.backend.models().await;
            }
            let asked = join_all(nodes.iter().map(|node| shared.ask(node))).await;
            let mut listed: Option<Vec<Model>> = None;
            let mut known = HashSet::new();
            let mut first_error = None;
            for (node, answer) in nodes.iter().zip(asked) {
                match answer {
                    Ok(models) => listed.get_or_insert_default().extend(
                        models
                            .into_iter()
                            .filter(|model| known.insert(model.id.clone())),
                    ),
                    Err(error) => {
                        shared.note(node, outcome(&error));
                        first_error.get_or_insert(error);
                    }
                }
            }
            listed.ok_or_else(|| first_error.unwrap_or_else(|| shared.nobody()))
        })
    }

    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        self.first("", |node, _| node.loaded_models())
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        self.first(id, |node, id| node.model(id))
    }

    /// Deletes the model at all nodes that have it.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let nodes = self.0.in_order(id);
            if nodes.is_empty() {
                return Err(self.0.nobody());
            }
            let deleted = nodes.iter().map(|node| node.backend.delete_model(id));
            let deleted = join_all(deleted).await;
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
        let first = self.0.state().nodes.first().cloned();
        first.is_some_and(|node| node.backend.is_called(listed, asked))
    }

    /// The fleet is ready if one node is.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            let nodes = self.0.in_order("");
            if nodes.is_empty() {
                return Err(self.0.nobody());
            }
            one_ready(nodes.iter().map(|node| node.backend.ready())).await
        })
    }
}
