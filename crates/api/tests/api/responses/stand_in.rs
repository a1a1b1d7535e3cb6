//! An engine with scripted answers behind a door, and requests for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream;
use http::Request;
use http_body_util::{BodyExt, Full};
use loggia_api::{Door, Policy, Strictness};
use loggia_backend::emulate::Emulate;
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, ChatCall, Chunk, Event,
    OptionNames, Reply, ServedBy, TokenCount, Work,
};
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, CompletionUsage, Content, FinishReason, Message, Model,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::state_machine::checked;
use crate::support::Answer;

/// The abilities of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All abilities of OpenAI's own API.
    OpenAi,
    /// The abilities of the embedded engine.
    Embedded,
    /// The abilities of an Ollama whose model supports tools.
    Ollama,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::OpenAi, Kind::Embedded, Kind::Ollama];

impl Kind {
    fn abilities(self) -> Abilities {
        use Ability as A;
        let embedded = [
            A::Tools,
            A::ToolChoice,
            A::StrictTools,
            A::InputGrammars,
            A::SingleToolCall,
            A::JsonObject,
            A::JsonSchema,
            A::Grammar,
            A::LogitBias,
            A::Logprobs,
            A::Seed,
            A::Reasoning,
            A::NoReasoning,
            A::Images,
            A::Continuation,
        ];
        let ollama = [
            A::Tools,
            A::JsonObject,
            A::JsonSchema,
            A::Logprobs,
            A::Seed,
            A::EngineOptions,
            A::Reasoning,
            A::NoReasoning,
            A::Images,
        ];
        let can = match self {
            Self::OpenAi => AbilitySet::OPENAI_ENGINE,
            Self::Embedded => AbilitySet::of(&embedded),
            Self::Ollama => AbilitySet::of(&ollama),
        };
        let options = match self {
            Self::OpenAi => OptionNames::None,
            Self::Embedded => OptionNames::Embedded,
            Self::Ollama => OptionNames::Ollama,
        };
        Abilities {
            can,
            options,
            ..Abilities::default()
        }
    }
}

/// Gives every request the same answer, and keeps the requests.
pub(crate) struct StandIn {
    kind: Kind,
    events: Vec<Event>,
    /// Whether the engine stops without an end after its last delta.
    dies: bool,
    /// The time until the engine accepts a request.
    accepts_after: Duration,
    /// The engine waits for a permit of this semaphore before it accepts a request.
    gate: Option<Arc<Semaphore>>,
    /// The answer to later requests.
    later: Mutex<VecDeque<Vec<Event>>>,
    /// How many requests have come.
    came: AtomicUsize,
    asked: Mutex<Option<ChatCompletionRequest>>,
    /// The size of the engine's context, if it reports one.
    context: Option<u64>,
    /// Whether the token counts of this engine are exact.
    counts_exactly: bool,
    /// The number of prompts that this engine has counted.
    counts: AtomicUsize,
}

impl StandIn {
    /// Creates an engine that sends these deltas and ends for this reason.
    pub(crate) fn says(deltas: &[Value], reason: FinishReason) -> Self {
        let mut events: Vec<Event> = deltas.iter().map(delta).collect();
        events.push(Event::Chunk(Chunk::of(ChunkChoice::finish(0, reason))));
        let mut usage = CompletionUsage::new(20, 7);
        if let Some(details) = &mut usage.prompt_tokens_details {
            details.cached_tokens = 16;
        }
        if let Some(details) = &mut usage.completion_tokens_details {
            details.reasoning_tokens = 3;
        }
        events.push(Event::Usage(usage));
        Self::with(events)
    }

    pub(crate) fn with(events: Vec<Event>) -> Self {
        Self {
            kind: Kind::OpenAi,
            events,
            dies: false,
            accepts_after: Duration::ZERO,
            gate: None,
            later: Mutex::default(),
            came: AtomicUsize::new(0),
            asked: Mutex::default(),
            context: None,
            counts_exactly: true,
            counts: AtomicUsize::new(0),
        }
    }

    pub(crate) fn of(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Gives the engine a context of this size.
    pub(crate) fn with_context(mut self, tokens: u64) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Makes the counts of the engine estimates.
    pub(crate) fn estimates(mut self) -> Self {
        self.counts_exactly = false;
        self
    }

    /// Returns the number of prompts that this engine has counted.
    pub(crate) fn counts(&self) -> usize {
        self.counts.load(Ordering::SeqCst)
    }

    /// Makes the engine stop without an end.
    pub(crate) fn dies(mut self) -> Self {
        self.events.truncate(self.events.len().saturating_sub(2));
        self.dies = true;
        self
    }

    pub(crate) fn accepts_after(mut self, time: Duration) -> Self {
        self.accepts_after = time;
        self
    }

    /// Creates an engine that waits for a permit before it accepts a request.
    pub(crate) fn behind(mut self, gate: &Arc<Semaphore>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }

    /// Gives this answer to the next request.
    pub(crate) fn then(self, deltas: &[Value], reason: FinishReason) -> Self {
        let next = Self::says(deltas, reason).events;
        self.later.lock().expect("no panic").push_back(next);
        self
    }

    /// How many requests have come, whether they are accepted or not.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// Creates an engine that sends "hello".
    pub(crate) fn hello() -> Self {
        Self::says(
            &[json!({"content": "Hello"}), json!({"content": "!"})],
            FinishReason::Stop,
        )
    }

    /// Returns the last request.
    pub(crate) fn request(&self) -> ChatCompletionRequest {
        let asked = self.asked.lock().expect("no panic");
        asked.clone().expect("a chat")
    }

    /// Returns the last request as JSON.
    pub(crate) fn asked(&self) -> Value {
        serde_json::to_value(self.request()).expect("JSON")
    }
}

/// A chunk with this delta.
pub(crate) fn delta(delta: &Value) -> Event {
    let mut choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    if let Some(logprobs) = delta.get("logprobs") {
        choice["logprobs"] = logprobs.clone();
        choice["delta"]
            .as_object_mut()
            .expect("an object")
            .remove("logprobs");
    }
    Event::Chunk(Chunk::of(serde_json::from_value(choice).expect("a choice")))
}

/// The chunks of a call: the first has its id and name.
pub(crate) fn call(index: u32, id: &str, name: &str, arguments: &[&str]) -> Vec<Value> {
    let first = json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let more = arguments
        .iter()
        .map(|piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
    std::iter::once(first).chain(more).collect()
}

impl Backend for StandIn {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = Abilities {
            context_length: self.context,
            ..self.kind.abilities()
        };
        Box::pin(std::future::ready(Ok(Arc::new(abilities))))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let is_first = self.came.fetch_add(1, Ordering::Relaxed) == 0;
        let Work::Chat(request) = call.work else {
            panic!("a response is a chat");
        };
        *self.asked.lock().expect("no panic") = Some((*request).clone());
        let mut later = self.later.lock().expect("no panic");
        let next = if is_first { None } else { later.pop_front() };
        drop(later);
        let events = next.unwrap_or_else(|| self.events.clone());
        let said: Vec<Result<Event, BackendError>> = events.into_iter().map(Ok).collect();
        let death = self.dies.then(|| {
            Err(BackendError::CutShort {
                backend: "stand-in".to_owned(),
            })
        });
        let served_by = ServedBy::new("stand-in", "m");
        let events = stream::iter(said.into_iter().chain(death)).boxed();
        let after = self.accepts_after;
        let gate = self.gate.clone();
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.acquire().await.expect("it is open").forget();
            }
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            Ok(Reply { served_by, events })
        })
    }

    /// One token per word of the messages, and one per message.
    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        self.counts.fetch_add(1, Ordering::SeqCst);
        let of_message = |message: &Message| {
            let text = message.content.as_ref().map(Content::joined_text);
            let words = text.map_or(0, |text| text.split_whitespace().count());
            1 + words as u64
        };
        let count = TokenCount {
            input_tokens: call.work.messages.iter().map(of_message).sum(),
            is_exact: self.counts_exactly,
            served_by: ServedBy::new("stand-in", "m"),
        };
        *self.asked.lock().expect("no panic") = Some((*call.work).clone());
        Box::pin(std::future::ready(Ok(count)))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let model = json!({"id": "m", "object": "model", "created": 0, "owned_by": "stand-in"});
        let model = serde_json::from_value(model).expect("a model");
        Box::pin(std::future::ready(Ok(vec![model])))
    }
}

/// A request with one user message and more fields.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
pub(crate) fn hi(more: Value) -> Value {
    let mut body = json!({"model": "m", "input": "Hi"});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    body
}

/// Returns the answer of a door in front of this engine.
pub(crate) async fn ask(engine: &Arc<StandIn>, policy: Policy, body: &Value) -> Answer {
    ask_at("/v1/responses", engine, policy, body).await
}

/// Returns the answer of a door with this engine at this path.
pub(crate) async fn ask_at(
    path: &str,
    engine: &Arc<StandIn>,
    policy: Policy,
    body: &Value,
) -> Answer {
    ask_text(path, engine, policy, body.to_string()).await
}

/// Returns the answer to a body with this text.
pub(crate) async fn ask_text(
    path: &str,
    engine: &Arc<StandIn>,
    policy: Policy,
    body: String,
) -> Answer {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let backend = Emulate::new(Arc::clone(engine) as Arc<dyn Backend>);
    let response = Door::new(Arc::new(backend), policy).serve(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("no error").to_bytes();
    Answer {
        head: http::Response::from_parts(parts, ()),
        body,
    }
}

/// Returns the response. Asserts that it is the same complete and streamed, and that the stream
/// follows the rules.
pub(crate) async fn response(engine: StandIn, body: &Value) -> (Value, Arc<StandIn>) {
    let engine = Arc::new(engine);
    let whole = ask(&engine, Policy::default(), body).await;
    assert_eq!(whole.status(), 200, "{}", whole.text());
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let stream = ask(&engine, Policy::default(), &streamed).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let end = checked(stream.text());
    let (whole, end) = (without_ids(whole.json()), without_ids(end));
    assert_eq!(whole, end, "a whole response is what a stream ends with");
    (end, engine)
}

/// Replaces the parts of a response that change each time. Ids keep their prefixes.
pub(crate) fn without_ids(mut response: Value) -> Value {
    let shorten = |id: &mut Value| {
        let text = id.as_str().unwrap_or_default();
        *id = json!(text.split_inclusive('_').next().unwrap_or_default());
    };
    shorten(&mut response["id"]);
    for item in response["output"].as_array_mut().expect("a list") {
        shorten(&mut item["id"]);
    }
    for time in ["created_at", "completed_at"] {
        if response[time].is_number() {
            response[time] = json!(1);
        }
    }
    response
}

/// Returns the error of a refused request: status, code, param.
pub(crate) async fn refusal(body: &Value) -> (u16, String, String) {
    refusal_under(Strictness::Plain, Kind::Ollama, body).await
}

pub(crate) async fn refusal_under(
    strictness: Strictness,
    kind: Kind,
    body: &Value,
) -> (u16, String, String) {
    let policy = Policy {
        strictness,
        ..Policy::default()
    };
    let answer = ask(&Arc::new(StandIn::hello().of(kind)), policy, body).await;
    let error = answer.json()["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (answer.status(), text("code"), text("param"))
}

/// Returns `x-loggia-ignored` of the answer.
pub(crate) async fn ignored(kind: Kind, body: &Value) -> String {
    let engine = Arc::new(StandIn::hello().of(kind));
    let answer = ask(&engine, Policy::default(), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
        .header("x-loggia-ignored")
        .unwrap_or_default()
        .to_owned()
}
