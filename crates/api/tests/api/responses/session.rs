//! Responses over a WebSocket, without a socket: frames in, frames out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use loggia_api::{ApiError, Body, Caller, Create, Door, MemoryStore, Policy, Session, Store};
use loggia_backend::emulate::Emulate;
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, Chunk, Event, Reply, ServedBy,
    Work,
};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, FinishReason, Model};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tower::service_fn;

use super::stand_in::{StandIn, call, delta, hi};
use super::state_machine::checked_events;

type Answering = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// A session, and the frames of one connection.
struct Wire {
    session:
        Session<tower::util::BoxCloneService<Request<Create>, Response<Body>, Infallible>, Body>,
}

impl Wire {
    fn to(door: &Door) -> Self {
        Self::opened(door, &head(None))
    }

    fn opened(door: &Door, by: &Parts) -> Self {
        let answering = door.clone();
        let service = service_fn(move |request: Request<Create>| -> Answering {
            let door = answering.clone();
            Box::pin(async move { Ok(door.respond(request).await) })
        });
        let service = tower::util::BoxCloneService::new(service);
        Self {
            session: Session::new(door, by, service),
        }
    }

    fn send(&mut self, frame: &Value) {
        self.session.receive(frame.to_string().into());
    }

    /// `response.create` with these fields.
    fn create(&mut self, more: Value) {
        let mut frame = hi(more);
        frame["type"] = json!("response.create");
        self.send(&frame);
    }

    async fn next(&mut self) -> Value {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.session.next()).await;
        serde_json::from_slice(&frame.expect("a frame")).expect("JSON")
    }

    /// Whether there is no frame now.
    fn is_silent(&mut self) -> bool {
        self.session.next().now_or_never().is_none()
    }

    /// The frames up to and including the first of this type.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next().await);
            if frames.last().is_some_and(|frame| frame["type"] == kind) {
                return frames;
            }
        }
    }

    /// Reads the events of a response to its end, and checks their order. Returns the response.
    async fn end(&mut self) -> Value {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let kind = frame["type"].as_str().expect("a type").to_owned();
            assert_ne!(kind, "error", "{frame}");
            frames.push(frame);
            if [
                "response.completed",
                "response.incomplete",
                "response.failed",
            ]
            .contains(&&*kind)
            {
                return checked_events(&frames);
            }
        }
    }

    /// The error that a turn ends with: status, code, param.
    async fn error(&mut self) -> (u16, String, String) {
        let frame = self.next().await;
        assert_eq!(frame["type"], "error", "{frame}");
        let text = |key: &str| frame["error"][key].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "{frame}");
        let status = frame["status"].as_u64().expect("a status");
        (
            status.try_into().expect("a status"),
            text("code"),
            text("param"),
        )
    }
}

fn head(key: Option<&str>) -> Parts {
    let mut request = Request::get("/v1/responses").header("host", "localhost");
    if let Some(name) = key {
        request = request.extension(Caller {
            name: name.into(),
            strictness: None,
            models: None,
            may_delete_models: false,
            may_have_priority: false,
        });
    }
    request.body(()).expect("a request").into_parts().0
}

fn door(engine: &Arc<StandIn>) -> Door {
    let backend = Emulate::new(Arc::clone(engine) as Arc<dyn Backend>);
    Door::new(Arc::new(backend), Policy::default())
}

fn id(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}

fn message(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

#[tokio::test]
async fn each_event_of_a_response_is_a_frame() {
    let mut wire = Wire::to(&door(&Arc::new(StandIn::hello())));
    for _ in 0..2 {
        wire.create(json!({}));
        let end = wire.end().await;
        assert_eq!(end["status"], "completed");
        assert_eq!(end["output"][0]["content"][0]["text"], "Hello!");
    }
    assert!(wire.is_silent() && wire.session.is_idle());
}

#[tokio::test]
async fn a_session_continues_its_responses_that_are_not_stored() {
    let engine = Arc::new(StandIn::hello());
    let mut with_store = door(&engine);
    let store = Arc::new(MemoryStore::new());
    with_store = with_store.with_store(Arc::clone(&store) as Arc<dyn Store>);
    for door in [door(&engine), with_store] {
        let mut wire = Wire::to(&door);
        wire.create(json!({"store": false, "input": "One"}));
        let first = wire.end().await;
        wire.create(json!({"store": false, "input": "Two", "previous_response_id": id(&first)}));
        let second = wire.end().await;
        assert_eq!(second["previous_response_id"], first["id"]);
        wire.create(json!({"store": false, "input": "Three", "previous_response_id": id(&second)}));
        wire.end().await;
        let asked = engine.asked();
        let said: Vec<&str> = asked["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| message["content"].as_str().expect("a text"))
            .collect();
        assert_eq!(said, ["One", "Hello!", "Two", "Hello!", "Three"]);

        let mut other = Wire::to(&door);
        other.create(json!({"store": false, "previous_response_id": id(&first)}));
        let unknown = (
            404,
            "previous_response_not_found".to_owned(),
            "previous_response_id".to_owned(),
        );
        assert_eq!(other.error().await, unknown);
    }
}

#[tokio::test]
async fn an_unstored_response_continues_a_stored_one() {
    let engine = Arc::new(StandIn::hello());
    let store = Arc::new(MemoryStore::new());
    let door = door(&engine).with_store(store);
    let mut wire = Wire::to(&door);
    wire.create(json!({"input": "One"}));
    let first = wire.end().await;
    assert_eq!(first["store"], true);
    wire.create(json!({"input": "Two", "store": false, "previous_response_id": id(&first)}));
    let second = wire.end().await;
    // This response is stored and continues an unstored one: on this connection, it can be
    // continued.
    wire.create(json!({"input": "Three", "previous_response_id": id(&second)}));
    let third = wire.end().await;
    wire.create(json!({"input": "Four", "previous_response_id": id(&third)}));
    wire.end().await;
    assert_eq!(engine.asked()["messages"].as_array().map(Vec::len), Some(7));
    let mut other = Wire::to(&door);
    other.create(json!({"previous_response_id": id(&first)}));
    other.end().await;
    other.create(json!({"previous_response_id": id(&third)}));
    assert_eq!(other.error().await.1, "previous_response_not_found");
}

#[tokio::test]
async fn a_failed_continuation_evicts_what_it_continued_on_its_lane_alone() {
    let mut wire = Wire::to(&door(&Arc::new(StandIn::hello())));
    let output =
        json!([{"type": "function_call_output", "call_id": "call_missing", "output": "x"}]);
    for (lane, is_evicted) in [(json!("a"), true), (json!("b"), false)] {
        wire.create(json!({"store": false, "stream_id": "a"}));
        let first = id(&wire.end().await);
        let more = json!({"store": false, "stream_id": lane, "previous_response_id": first, "input": output});
        wire.create(more);
        assert_eq!(wire.error().await.0, 400);
        wire.create(json!({"store": false, "stream_id": "a", "previous_response_id": first}));
        if is_evicted {
            assert_eq!(wire.error().await.1, "previous_response_not_found");
        } else {
            wire.end().await;
        }
    }
}

#[tokio::test]
async fn a_warm_up_reads_the_prompt_and_says_nothing() {
    let engine = Arc::new(StandIn::says(
        &[json!({"content": "Hel"})],
        FinishReason::Length,
    ));
    for more in [
        json!({"generate": false}),
        json!({"prompt_cache_options": {"prewarm": true}}),
    ] {
        let mut wire = Wire::to(&door(&engine));
        let mut first = json!({"store": false, "input": "One", "max_output_tokens": 99});
        first
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().expect("an object"));
        wire.create(first);
        let warm = wire.end().await;
        assert_eq!(
            (&warm["status"], &warm["output"]),
            (&json!("completed"), &json!([]))
        );
        assert_eq!(
            (
                &warm["usage"]["output_tokens"],
                &warm["usage"]["input_tokens"]
            ),
            (&json!(0), &json!(20))
        );
        assert_eq!(warm["usage"]["total_tokens"], 20);
        assert_eq!(warm["max_output_tokens"], 99);
        assert_eq!(engine.asked()["max_completion_tokens"], 1);
        wire.create(json!({"store": false, "input": "Two", "previous_response_id": id(&warm)}));
        assert_eq!(wire.end().await["status"], "incomplete");
        let asked = engine.asked();
        assert_eq!(
            asked["messages"],
            json!([message("user", "One"), message("user", "Two")])
        );
        assert_eq!(asked.get("prompt_cache_options"), None);
    }
}

#[tokio::test]
async fn a_frame_that_cannot_be_used_is_an_error_and_the_session_goes_on() {
    let mut wire = Wire::to(&door(&Arc::new(StandIn::hello())));
    let long = "x".repeat(257);
    for (frame, code, param) in [
        (json!([]), "invalid_type", ""),
        (json!({}), "missing_required_parameter", "type"),
        (json!({"type": "session.update"}), "invalid_value", "type"),
        (
            json!({"type": "response.create", "stream_id": ""}),
            "invalid_stream_id",
            "stream_id",
        ),
        (
            json!({"type": "response.create", "stream_id": "a b"}),
            "invalid_stream_id",
            "stream_id",
        ),
        (
            json!({"type": "response.create", "stream_id": long}),
            "invalid_stream_id",
            "stream_id",
        ),
        (
            json!({"type": "response.create", "stream_id": 1}),
            "invalid_stream_id",
            "stream_id",
        ),
        (
            json!({"type": "response.create"}),
            "missing_required_parameter",
            "model",
        ),
        (
            json!({"type": "response.create", "model": "m", "input": 1}),
            "invalid_type",
            "input",
        ),
        (
            json!({"type": "response.create", "model": "m", "input": "x", "generate": 0}),
            "invalid_type",
            "generate",
        ),
    ] {
        wire.send(&frame);
        let (status, was, about) = wire.error().await;
        assert_eq!((status, about.as_str()), (400, param), "{frame}");
        if !param.is_empty() {
            assert_eq!(was, code, "{frame}");
        }
    }
    wire.session.receive(Bytes::from_static(b"{\"type\": "));
    assert_eq!(wire.error().await.0, 400);
    wire.session.receive(Bytes::from_static(b"\xff\xfe"));
    assert_eq!(wire.error().await.0, 400);
    wire.create(json!({"stream_id": "lane", "top_logprobs": 99}));
    let frame = wire.next().await;
    assert_eq!(
        (&frame["type"], &frame["stream_id"]),
        (&json!("error"), &json!("lane"))
    );
    wire.create(json!({"stream_id": null, "stream": false, "background": true}));
    assert_eq!(wire.end().await["background"], false);
}

/// An engine whose answers the test gives.
struct Scripted {
    asked: mpsc::Sender<Said>,
}

/// One request, and where its answer comes from.
struct Said {
    chat: Value,
    events: mpsc::Sender<Event>,
}

impl Said {
    async fn text(&self, text: &str) {
        self.events
            .send(delta(&json!({"content": text})))
            .await
            .expect("a reader");
    }

    async fn end(self, reason: FinishReason) {
        let end = Event::Chunk(Chunk::of(ChunkChoice::finish(0, reason)));
        self.events.send(end).await.expect("a reader");
        let usage = Event::Usage(CompletionUsage::new(3, 2));
        self.events.send(usage).await.expect("a reader");
    }
}

impl Backend for Scripted {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = Abilities {
            can: AbilitySet::of(&[Ability::Chat, Ability::Tools]),
            ..Abilities::default()
        };
        Box::pin(std::future::ready(Ok(Arc::new(abilities))))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Work::Chat(request) = call.work else {
            panic!("a response is a chat");
        };
        let chat = serde_json::to_value(&*request).expect("JSON");
        Box::pin(async move {
            let (events, reply) = mpsc::channel(8);
            self.asked
                .send(Said { chat, events })
                .await
                .expect("the test still runs");
            let events = stream::unfold(reply, async |mut reply: mpsc::Receiver<Event>| {
                reply.recv().await.map(|event| (Ok(event), reply))
            });
            let served_by = ServedBy::new("scripted", "m");
            Ok(Reply {
                served_by,
                events: events.boxed(),
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A session before an engine whose answers the test gives.
struct Stage {
    wire: Wire,
    asked: Mutex<mpsc::Receiver<Said>>,
}

impl Stage {
    fn set() -> Self {
        let (asked, receiver) = mpsc::channel(64);
        let backend: Arc<dyn Backend> = Arc::new(Scripted { asked });
        Self {
            wire: Wire::to(&Door::new(backend, Policy::default())),
            asked: Mutex::new(receiver),
        }
    }

    /// The next request. Frames are not waited for in the meantime: there must be none.
    async fn asked(&mut self) -> Said {
        let mut asked = self.asked.lock().await;
        tokio::select! {
            said = asked.recv() => said.expect("a request"),
            frame = self.wire.session.next() => panic!("no frame was expected: {frame:?}"),
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("no request"),
        }
    }

    /// Begins a response that has said something, up to that frame.
    async fn begin(&mut self, more: Value, text: &str) -> (Said, Vec<Value>) {
        self.wire.create(more);
        let said = self.asked().await;
        said.text(text).await;
        let frames = self.wire.until("response.output_text.delta").await;
        (said, frames)
    }
}

#[tokio::test]
async fn lanes_interleave_and_one_lane_has_one_response_at_a_time() {
    let mut stage = Stage::set();
    let (a, frames) = stage.begin(json!({"stream_id": "a"}), "A").await;
    assert!(frames.iter().all(|frame| frame["stream_id"] == "a"));
    stage
        .wire
        .create(json!({"stream_id": "a", "input": "later"}));
    assert!(stage.wire.is_silent());
    let (none, frames) = stage.begin(json!({}), "none").await;
    assert!(frames.iter().all(|frame| frame.get("stream_id").is_none()));
    let (b, _) = stage.begin(json!({"stream_id": "b"}), "B").await;
    a.end(FinishReason::Stop).await;
    let frames = stage.wire.until("response.completed").await;
    assert!(
        frames.iter().all(|frame| frame["stream_id"] == "a"),
        "{frames:?}"
    );
    let later = stage.asked().await;
    assert_eq!(later.chat["messages"][0]["content"], "later");
    for (said, lane) in [(b, json!("b")), (later, json!("a")), (none, Value::Null)] {
        said.text("x").await;
        said.end(FinishReason::Stop).await;
        let frames = stage.wire.until("response.completed").await;
        assert!(frames.iter().all(|frame| frame["stream_id"] == lane));
    }
    assert!(stage.wire.is_silent() && stage.wire.session.is_idle());
}

#[tokio::test]
async fn responses_lanes_and_waiting_requests_are_bounded() {
    let mut stage = Stage::set();
    let mut running = Vec::new();
    for lane in 0..16 {
        running.push(
            stage
                .begin(json!({"stream_id": lane.to_string()}), "x")
                .await
                .0,
        );
    }
    stage.wire.create(json!({"stream_id": "16"}));
    let reached = (
        429,
        "websocket_stream_limit_reached".to_owned(),
        String::new(),
    );
    assert_eq!(stage.wire.error().await, reached);
    for _ in 0..64 {
        stage.wire.create(json!({"stream_id": "0"}));
    }
    stage.wire.create(json!({"stream_id": "1"}));
    assert_eq!(stage.wire.error().await, reached);
    drop(running);

    let mut wire = Wire::to(&door(&Arc::new(StandIn::hello())));
    for lane in 0..32 {
        wire.create(json!({"stream_id": format!("lane-{lane}")}));
        wire.end().await;
    }
    wire.create(json!({"stream_id": "one-more"}));
    assert_eq!(wire.error().await, reached);
    wire.create(json!({"stream_id": "lane-31"}));
    wire.end().await;
    wire.create(json!({}));
    wire.end().await;
}

#[tokio::test]
async fn a_frame_that_nobody_takes_is_not_made() {
    let mut stage = Stage::set();
    stage.wire.create(json!({}));
    let said = stage.asked().await;
    // The channel has room for 8: the ninth waits until the session asks for more.
    for _ in 0..8 {
        said.text("x").await;
    }
    assert!(
        said.events
            .try_send(delta(&json!({"content": "x"})))
            .is_err()
    );
    stage.wire.until("response.output_text.delta").await;
    said.text("y").await;
    assert!(!stage.wire.session.is_idle());
}

#[tokio::test]
async fn a_session_that_closes_ends_what_runs_and_refuses_what_is_new() {
    let stopping =
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The server stops.").coded("stopping");
    let mut stage = Stage::set();
    let (said, mut frames) = stage.begin(json!({"stream_id": "a"}), "Hel").await;
    stage
        .wire
        .create(json!({"stream_id": "a", "input": "waiting"}));
    stage.wire.session.close(stopping.clone());
    assert_eq!(stage.wire.error().await.1, "stopping");
    stage.wire.create(json!({"stream_id": "b"}));
    assert_eq!(stage.wire.error().await.1, "stopping");
    said.text("lo").await;
    frames.push(stage.wire.next().await);

    stage.wire.session.fail(&stopping);
    frames.extend(stage.wire.until("response.failed").await);
    let end = checked_events(&frames);
    assert_eq!(
        (&end["status"], &end["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
    assert_eq!(end["output"][0]["content"][0]["text"], "Hello");
    assert!(stage.wire.is_silent() && stage.wire.session.is_idle());
    assert!(said.events.is_closed(), "the engine stops");
}

#[tokio::test]
async fn a_response_that_has_not_begun_ends_with_an_error_when_the_session_fails() {
    let mut stage = Stage::set();
    stage.wire.create(json!({}));
    let said = stage.asked().await;
    stage.wire.session.fail(&ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server stops.",
    ));
    assert_eq!(stage.wire.error().await.0, 503);
    assert!(stage.wire.session.is_idle() && said.events.is_closed());
}

fn steer(previous: &str, input: &Value) -> Value {
    json!({"type": "response.steer", "previous_response_id": previous, "input": input})
}

#[tokio::test]
async fn a_steered_response_ends_at_once_and_another_one_continues_it() {
    let mut stage = Stage::set();
    let settings =
        json!({"stream_id": "a", "store": false, "instructions": "Be brief.", "temperature": 0.5});
    let (said, mut frames) = stage.begin(settings, "The moon").await;
    let first = id(&frames[0]["response"]);
    stage.wire.send(&steer(&first, &json!("Speak of the sun.")));
    frames.extend(stage.wire.until("response.incomplete").await);
    let end = checked_events(&frames);
    assert_eq!(end["incomplete_details"]["reason"], "steered");
    assert_eq!(end["output"][0]["content"][0]["text"], "The moon");
    assert_eq!(end["output"][0]["status"], "incomplete");
    let accepted = frames
        .iter()
        .position(|frame| frame["type"] == "response.steer.accepted");
    assert_eq!(frames[accepted.expect("it is accepted")]["stream_id"], "a");
    assert!(said.events.is_closed() || stage.wire.is_silent());

    let next = stage.asked().await;
    assert!(said.events.is_closed(), "the engine stops");
    assert_eq!(next.chat["temperature"], 0.5);
    let expected = json!([
        message("system", "Be brief."),
        message("user", "Hi"),
        message("assistant", "The moon"),
        message("user", "Speak of the sun.")
    ]);
    assert_eq!(next.chat["messages"], expected);
    next.text("The sun").await;
    next.end(FinishReason::Stop).await;
    let end = stage.wire.end().await;
    assert_eq!(end["previous_response_id"], json!(first));
    assert_eq!(end["status"], "completed");
}

#[tokio::test]
async fn a_response_that_completes_is_continued_with_all_that_steered_it() {
    let mut stage = Stage::set();
    let (said, frames) = stage.begin(json!({"store": false}), "The moon").await;
    let first = id(&frames[0]["response"]);
    said.end(FinishReason::Stop).await;
    // The whole of the answer is there, but the client has not got it yet.
    let images = json!([{"role": "user", "content": [{"type": "input_text", "text": "Two."}]}]);
    stage.wire.until("response.output_item.done").await;
    stage.wire.send(&steer(&first, &json!("One.")));
    stage.wire.send(&steer(&first, &images));
    let mut accepted = 0;
    let mut last = 0;
    while accepted < 2 {
        let frame = stage.wire.next().await;
        let number = frame["sequence_number"].as_u64().expect("a number");
        assert!(number > last, "{frame}");
        last = number;
        accepted += usize::from(frame["type"] == "response.steer.accepted");
    }
    let next = loop {
        tokio::select! {
            said = async { stage.asked.lock().await.recv().await } => break said.expect("a request"),
            frame = stage.wire.session.next() => assert!(!frame.is_empty()),
        }
    };
    let messages = next.chat["messages"].as_array().expect("messages");
    let said: Vec<String> = messages
        .iter()
        .map(|message| message["content"].to_string())
        .collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[2].contains("One.") && said[3].contains("Two."));
}

#[tokio::test]
async fn input_waits_for_the_outputs_of_calls() {
    let mut stage = Stage::set();
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]);
    stage.wire.create(json!({"store": false, "tools": tools}));
    let said = stage.asked().await;
    for piece in call(0, "call_1", "look", &["{", "}"]) {
        said.events.send(delta(&piece)).await.expect("a reader");
    }
    let mut frames = stage
        .wire
        .until("response.function_call_arguments.delta")
        .await;
    let first = id(&frames[0]["response"]);
    stage.wire.send(&steer(&first, &json!("And be quick.")));
    said.end(FinishReason::ToolCalls).await;
    frames.extend(stage.wire.until("response.completed").await);
    checked_events(&frames);
    let pending = stage.wire.next().await;
    assert_eq!(pending["type"], "response.steer.pending");
    assert_eq!(pending["reason"], "waiting_for_required_input");
    let stub = json!({"type": "function_call_output", "call_id": "call_1", "name": "look"});
    assert_eq!(pending["required_input"], json!([stub]));
    assert_eq!(pending["steer"]["previous_response_id"], json!(first));
    assert!(stage.wire.is_silent() && stage.wire.session.is_idle());

    let output = json!([{"type": "function_call_output", "call_id": "call_1", "output": "Seen."}]);
    stage.wire.create(
        json!({"store": false, "tools": tools, "previous_response_id": first, "input": output}),
    );
    let next = stage.asked().await;
    let messages = next.chat["messages"].as_array().expect("messages");
    let roles: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "user"]);
    assert_eq!(messages[3]["content"], "And be quick.");
}

#[tokio::test]
async fn input_that_steers_nothing_goes_back() {
    let mut stage = Stage::set();
    let failed = async |stage: &mut Stage, frame: Value| {
        stage.wire.send(&frame);
        let answer = stage.wire.next().await;
        assert_eq!(answer["type"], "response.steer.failed", "{answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert_eq!(
            answer["steer"]["input"],
            *frame.get("input").unwrap_or(&json!(""))
        );
        answer["error"]["code"].as_str().expect("a code").to_owned()
    };
    assert_eq!(
        failed(&mut stage, steer("resp_1", &json!("x"))).await,
        "response_not_found"
    );
    let (said, frames) = stage
        .begin(json!({"store": false, "stream_id": "a"}), "x")
        .await;
    let first = id(&frames[0]["response"]);
    for input in [
        json!(""),
        json!([]),
        json!(1),
        json!([{"role": "system", "content": "x"}]),
        json!([{"role": "user", "content": ""}]),
        json!([{"role": "user", "content": "x", "id": "msg_1"}]),
        json!([{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]),
        json!([{"type": "function_call_output", "call_id": "c", "output": "x"}]),
    ] {
        let code = failed(&mut stage, steer(&first, &input)).await;
        assert_eq!(code, "invalid_input", "{input}");
    }
    let mut more = steer(&first, &json!("x"));
    more["stream_id"] = json!("a");
    assert_eq!(failed(&mut stage, more).await, "invalid_input");
    assert_eq!(
        failed(&mut stage, json!({"type": "response.steer"})).await,
        "invalid_input"
    );
    said.end(FinishReason::Stop).await;
    stage.wire.until("response.completed").await;
    assert_eq!(
        failed(&mut stage, steer(&first, &json!("x"))).await,
        "response_already_completed"
    );

    let (_said, frames) = stage
        .begin(json!({"context_management": [{"type": "compaction"}]}), "x")
        .await;
    let second = id(&frames[0]["response"]);
    assert_eq!(
        failed(&mut stage, steer(&second, &json!("x"))).await,
        "steering_not_supported"
    );
}

#[tokio::test]
async fn too_much_input_for_one_response_goes_back() {
    let mut stage = Stage::set();
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]);
    stage.wire.create(json!({"store": false, "tools": tools}));
    let said = stage.asked().await;
    for piece in call(0, "call_1", "look", &["{"]) {
        said.events.send(delta(&piece)).await.expect("a reader");
    }
    let frames = stage
        .wire
        .until("response.function_call_arguments.delta")
        .await;
    let first = id(&frames[0]["response"]);
    for _ in 0..16 {
        stage.wire.send(&steer(&first, &json!("x")));
        assert_eq!(stage.wire.next().await["type"], "response.steer.accepted");
    }
    stage.wire.send(&steer(&first, &json!("x")));
    let answer = stage.wire.next().await;
    assert_eq!(answer["error"]["code"], "too_many_pending_steers");
    // The response fails: every input is returned, with its id.
    drop(said);
    stage.wire.until("response.failed").await;
    for _ in 0..16 {
        let back = stage.wire.next().await;
        assert_eq!(back["error"]["code"], "response_not_active", "{back}");
        assert!(back["steer"]["id"].is_string());
    }
}

#[tokio::test]
async fn a_session_asks_as_the_one_who_opened_it() {
    let engine = Arc::new(StandIn::hello());
    let door = door(&engine).with_store(Arc::new(MemoryStore::new()));
    let mut alice = Wire::opened(&door, &head(Some("alice")));
    alice.create(json!({}));
    let response = id(&alice.end().await);
    let mut bob = Wire::opened(&door, &head(Some("bob")));
    bob.create(json!({"previous_response_id": response}));
    assert_eq!(bob.error().await.1, "previous_response_not_found");
    alice.create(json!({"previous_response_id": response}));
    alice.end().await;
}
