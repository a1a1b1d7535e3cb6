//! [`Queue`]: limits how many requests a backend answers at once. The others wait, and the keys take
//! turns by the tokens that they were served. A request of a higher [`Priority`](crate::Priority) is
//! first.
//!
//! `line.rs` decides; this file lets requests wait and counts what they are served; `place.rs` tells
//! a client its place.

mod line;
mod place;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use self::line::{Entered, Entrant, Line, Owner};
use crate::{
    Abilities, Ability, AudioCall, AudioPiece, AudioReply, Backend, BackendError, Call, CallHead,
    ChatCall, EmbeddingCall, Embeddings, Event, Events, OllamaCall, OllamaPiece, OllamaReply,
    Reply, RerankCall, Reranked, TokenCount, Trace, Wrap,
};

pub use place::PlaceInQueue;

/// When a client that found no place may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Limits the number of requests that a backend answers at once. A request counts until its last
/// event.
pub struct Queue {
    inner: Arc<dyn Backend>,
    turns: Arc<Turns>,
    /// Hears of every request that had to wait.
    on_waited: Option<OnWaited>,
}

/// Called when a request that had to wait got its turn, or left: with its trace, and the time since
/// which it waited.
pub type OnWaited = Arc<dyn Fn(&Trace, Instant) + Send + Sync>;

/// The wait of a request that belongs to a trace.
struct Wait<'a> {
    on_waited: &'a OnWaited,
    trace: &'a Trace,
    since: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        (self.on_waited)(self.trace, self.since);
    }
}

struct Turns(Mutex<State>);

struct State {
    line: Line,
    waiting: HashMap<u64, Waiting>,
    entered: u64,
}

struct Waiting {
    turn: oneshot::Sender<Turn>,
    /// The tokens of the prompt.
    cost: u64,
}

impl Queue {
    /// Wraps a backend that answers `at_once` requests at once, while up to `places` wait.
    pub fn new(inner: Arc<dyn Backend>, at_once: usize, places: usize) -> Self {
        let state = State {
            line: Line::new(at_once, places),
            waiting: HashMap::new(),
            entered: 0,
        };
        Self {
            inner,
            turns: Arc::new(Turns(Mutex::new(state))),
            on_waited: None,
        }
    }

    /// Sets what is called when a request that belongs to a trace has waited.
    #[must_use]
    pub fn with_on_waited(self, on_waited: Option<OnWaited>) -> Self {
        Self { on_waited, ..self }
    }

    /// Waits for the turn of a request.
    async fn turn(&self, head: &CallHead, cost: u64) -> Result<Turn, BackendError> {
        self.turns.turn(head, cost, self.on_waited.as_ref()).await
    }
}

impl Queue {
    /// Changes how many requests are answered at once and wait. Those that run or wait already stay.
    pub fn resize(&self, at_once: usize, places: usize) {
        self.turns.state().line.resize(at_once, places);
        self.turns.go_on();
    }

    /// Returns how many requests run, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        self.turns.state().line.counts()
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request.
    async fn turn(
        self: &Arc<Self>,
        head: &CallHead,
        cost: u64,
        on_waited: Option<&OnWaited>,
    ) -> Result<Turn, BackendError> {
        let busy = BackendError::Busy {
            retry_after: Some(RETRY_AFTER),
        };
        let (place, turn) = {
            let mut state = self.state();
            state.entered += 1;
            let entrant = Entrant {
                owner: head.caller.clone(),
                priority: head.priority,
                number: state.entered,
            };
            match state.line.enter(&entrant, cost) {
                Entered::Full => return Err(busy),
                Entered::Runs => return Ok(Turn::new(self, &entrant.owner)),
                Entered::Waits => {}
                // The other request's wait for its turn fails, because the sender is dropped.
                Entered::WaitsInsteadOf(other) => drop(state.waiting.remove(&other)),
            }
            let (sender, turn) = oneshot::channel();
            let waiting = Waiting { turn: sender, cost };
            state.waiting.insert(entrant.number, waiting);
            let place = Place {
                turns: self,
                entrant,
            };
            (place, turn)
        };
        if let Some(told) = &head.place {
            place.tell(told);
        }
        let _wait = on_waited
            .zip(head.trace.as_deref())
            .map(|(on_waited, trace)| Wait {
                on_waited,
                trace,
                since: Instant::now(),
            });
        let turn = turn.await;
        drop(place);
        turn.map_err(|_| busy)
    }

    /// Lets requests run as long as there is room.
    fn go_on(self: &Arc<Self>) {
        loop {
            // The lock is released before the turn is sent: if the receiver is gone, dropping the
            // turn takes the lock again.
            let (turn, owner) = {
                let mut state = self.state();
                let Some((owner, number)) = state.line.next() else {
                    return;
                };
                let waiting = state.waiting.remove(&number);
                let cost = waiting.as_ref().map_or(0, |waiting| waiting.cost);
                state.line.charge(&owner, cost);
                (waiting.map(|waiting| waiting.turn), owner)
            };
            let own = Turn::new(self, &owner);
            if let Some(turn) = turn {
                drop(turn.send(own));
            }
        }
    }
}

/// The place of a waiting request. Dropping this removes the request from the queue.
struct Place<'a> {
    turns: &'a Arc<Turns>,
    entrant: Entrant,
}

impl Place<'_> {
    /// Lets a client ask for the place.
    fn tell(&self, told: &PlaceInQueue) {
        let (turns, entrant) = (Arc::downgrade(self.turns), self.entrant.clone());
        told.set(move || turns.upgrade()?.state().line.place(&entrant));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if state.waiting.remove(&self.entrant.number).is_some() {
            state.line.leave(&self.entrant);
        }
    }
}

/// A request's permission to run. Dropping this lets the next request run.
struct Turn {
    turns: Arc<Turns>,
    owner: Owner,
    /// The tokens of the answer so far.
    served: u64,
}

impl Turn {
    fn new(turns: &Arc<Turns>, owner: &Owner) -> Self {
        Self {
            turns: Arc::clone(turns),
            owner: owner.clone(),
            served: 0,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().line.end(&self.owner, self.served);
        self.turns.go_on();
    }
}

/// The events of an answer, whose turn ends with the last one.
struct Answer {
    events: Events,
    turn: Option<Turn>,
}

impl Stream for Answer {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.events.poll_next_unpin(cx));
        if let Some(turn) = &mut self.turn {
            match &next {
                // About a token each, until the engine reports the number.
                Some(Ok(Event::Chunk(_))) => turn.served += 1,
                Some(Ok(Event::Usage(usage))) => turn.served = usage.completion_tokens,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.turn = None,
            }
        }
        Poll::Ready(next)
    }
}

impl Wrap for Queue {
    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            let mut abilities = self.inner.abilities(model).await?;
            let can = &mut Arc::make_mut(&mut abilities).can;
            *can = can.with(Ability::ServiceTier);
            Ok(abilities)
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let cost = call.work.estimated_prompt_tokens();
            let turn = self.turn(&call.head, cost).await?;
            let mut reply = self.inner.start(call).await?;
            reply.events = Box::pin(Answer {
                events: reply.events,
                turn: Some(turn),
            });
            Ok(reply)
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let cost = call.estimated_prompt_tokens();
            let _turn = self.turn(&call.head, cost).await?;
            self.inner.embed(call).await
        })
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let mut turn = self.turn(&call.head, 0).await?;
            let Some(mut reply) = self.inner.audio(call).await? else {
                return Ok(None);
            };
            reply.pieces = reply
                .pieces
                .inspect(move |piece| {
                    // The whole turn is captured, not only this field of it.
                    let turn = &mut turn;
                    if let Ok(AudioPiece::Usage(usage)) = piece {
                        turn.served = usage.completion_tokens;
                    }
                })
                .boxed();
            Ok(Some(reply))
        })
    }

    /// Only calls that a model answers wait for their turn.
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move {
            if !call.work.route.generates() {
                return self.inner.ollama_api(call).await;
            }
            let mut turn = self.turn(&call.head, 0).await?;
            let Some(mut reply) = self.inner.ollama_api(call).await? else {
                return Ok(None);
            };
            reply.pieces = reply
                .pieces
                .inspect(move |piece| {
                    // The whole turn is captured, not only this field of it.
                    let turn = &mut turn;
                    if let Ok(OllamaPiece::Usage(usage)) = piece {
                        turn.served = usage.completion_tokens;
                    }
                })
                .boxed();
            Ok(Some(reply))
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let _turn = self.turn(&call.head, 0).await?;
            self.inner.count_tokens(call).await
        })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let cost = call.work.estimated_tokens();
            let _turn = self.turn(&call.head, cost).await?;
            self.inner.rerank(call).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use futures_util::stream;
    use loggia_wire::openai::{ChatCompletionRequest, Model};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{Chunk, Priority, ServedBy};

    /// An engine that takes 100 ms for the first piece of an answer, and 10 ms for each of the others,
    /// 5 to 15.
    #[derive(Default)]
    struct Engine {
        running: Arc<AtomicUsize>,
        most: AtomicUsize,
        started: AtomicUsize,
    }

    struct Running(Arc<AtomicUsize>);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Backend for Engine {
        fn abilities<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
            Box::pin(std::future::ready(Ok(Arc::default())))
        }

        fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let running = Running(Arc::clone(&self.running));
            let others = 5 + self.started.fetch_add(1, Ordering::SeqCst) * 7 % 11;
            let events = stream::iter(0..=others).then(move |piece| {
                let _runs = &running;
                let takes = if piece == 0 { 100 } else { 10 };
                async move {
                    sleep(Duration::from_millis(takes)).await;
                    Ok(Event::Chunk(Chunk::default()))
                }
            });
            Box::pin(std::future::ready(Ok(Reply {
                served_by: ServedBy::new("engine", "m"),
                events: Box::pin(events),
            })))
        }

        /// Speaks for 100 ms, in two pieces.
        fn audio(&self, _: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let running = Running(Arc::clone(&self.running));
            let pieces = stream::iter(0..2).then(move |_| {
                let _runs = &running;
                async move {
                    sleep(Duration::from_millis(50)).await;
                    Ok(AudioPiece::Bytes("RIFF".into()))
                }
            });
            Box::pin(std::future::ready(Ok(Some(AudioReply {
                served_by: ServedBy::new("engine", "m"),
                media_type: "audio/wav".to_owned(),
                length: None,
                pieces: Box::pin(pieces),
            }))))
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    fn call(key: &str) -> Call {
        let chat = serde_json::json!({"model": "m", "messages": []});
        let chat: ChatCompletionRequest = serde_json::from_value(chat).unwrap();
        let mut call = Call::new("1", Arc::new(chat));
        call.head.caller = Some(key.into());
        call
    }

    /// Asks once, and returns the time to the first event.
    async fn ask(queue: &dyn Backend, key: &str) -> Result<Duration, BackendError> {
        let since = Instant::now();
        let mut reply = queue.start(call(key)).await?;
        reply.first_word().await?;
        let first = since.elapsed();
        while reply.events.next().await.transpose()?.is_some() {}
        Ok(first)
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_held_until_the_last_event_and_a_full_queue_refuses() {
        let engine = Arc::new(Engine::default());
        let queue = Queue::new(engine.clone(), 3, 20);
        let answers = join_all((0..30).map(|_| ask(&queue, "k"))).await;
        assert_eq!(engine.most.load(Ordering::SeqCst), 3);
        let busy: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(
            busy,
            vec![
                BackendError::Busy {
                    retry_after: Some(RETRY_AFTER)
                };
                7
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn speech_holds_its_place_until_the_last_piece() {
        let engine = Arc::new(Engine::default());
        let queue = Queue::new(engine.clone(), 2, 20);
        let since = Instant::now();
        let spoken = join_all((0..6).map(|_| async {
            let audio = crate::Audio {
                model: "m".to_owned(),
                task: crate::AudioTask::Speak(loggia_wire::Extra::default()),
            };
            let reply = Backend::audio(&queue, AudioCall::new("1", audio)).await;
            let mut reply = reply.unwrap().expect("a reply");
            while reply.pieces.next().await.transpose().unwrap().is_some() {}
        }));
        spoken.await;
        assert_eq!(engine.most.load(Ordering::SeqCst), 2);
        assert!(since.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_gives_its_place_and_its_turn_to_others() {
        let queue = Queue::new(Arc::new(Engine::default()), 1, 2);
        let running = Backend::start(&queue, call("a")).await.unwrap();
        for _ in 0..50 {
            let waiting = Backend::start(&queue, call("b"));
            assert!(
                tokio::time::timeout(Duration::from_secs(1), waiting)
                    .await
                    .is_err()
            );
        }
        drop(running);
        assert!(ask(&queue, "c").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_tells_its_place_until_it_runs_or_makes_room() {
        let queue = Queue::new(Arc::new(Engine::default()), 1, 2);
        let _running = Backend::start(&queue, call("a")).await.unwrap();
        let ask = |priority| {
            let mut call = call("b");
            let place = PlaceInQueue::default();
            call.head.priority = priority;
            call.head.place = Some(place.clone());
            (place, Backend::start(&queue, call))
        };
        let (place, flex) = ask(Priority::Flex);
        let (first, default) = ask(Priority::Default);
        assert_eq!((place.get(), first.get()), (None, None));
        let (mut flex, mut default) = (flex, default);
        assert!((&mut flex).now_or_never().is_none());
        assert_eq!(place.get(), Some(1));
        assert!((&mut default).now_or_never().is_none());
        assert_eq!((place.get(), first.get()), (Some(2), Some(1)));
        let (_, mut high) = ask(Priority::High);
        assert!((&mut high).now_or_never().is_none());
        assert_eq!(first.get(), Some(2));
        let turned_out = flex.await.unwrap_err();
        assert!(turned_out.may_try_again(), "{turned_out}");
        assert_eq!(place.get(), None);
    }

    /// A thousand keys ask once each, beside a key that has 500 requests waiting all the time.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_keys_hardly_notice_a_greedy_one() {
        async fn mean_first(greedy: usize) -> f64 {
            let queue = Queue::new(Arc::new(Engine::default()), 8, 2000);
            let flood = join_all((0..greedy).map(|_| async {
                loop {
                    ask(&queue, "greedy").await.unwrap();
                }
            }));
            let others = join_all((0..1000_u64).map(|number| {
                let queue = &queue;
                async move {
                    // The load is seven tenths of what the engine can answer.
                    sleep(Duration::from_millis(1000 + number * 34)).await;
                    ask(queue, &number.to_string()).await.unwrap()
                }
            }));
            let firsts = tokio::select! {
                firsts = others => firsts,
                _ = flood, if greedy > 0 => Vec::new(),
            };
            firsts.iter().map(Duration::as_secs_f64).sum::<f64>() / 1000.0
        }
        let (alone, beside) = (mean_first(0).await, mean_first(500).await);
        println!("the mean first token: {alone:.4} s alone, {beside:.4} s beside a greedy key");
        assert!(alone > 0.09 && beside <= alone * 1.5, "{alone} {beside}");
    }
}
