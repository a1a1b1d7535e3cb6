//! Spans for OpenTelemetry, as a collector gets them: OTLP over HTTP, in Protocol Buffers.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use loggia_api::{MemoryBlobs, MemoryStore, Policy};
use loggia_backend::fleet::Fleet;
use loggia_backend::queue::Queue;
use loggia_backend::{
    Abilities, Ability, Backend, BackendError, Call, Chunk, EmbeddingCall, Embeddings, Event,
    Reply, ServedBy, Trace,
};
use loggia_server::{App, AppState, Metrics, Sampler, ServerOptions, TracedServer, Traces, app};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::test_server::{soon, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Bytes>>>,
    /// How it answers.
    status: StatusCode,
    rejects: i64,
}

impl Collector {
    /// Listens, and returns the URL for spans.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let collector = self.clone();
        let app = Router::new().fallback(move |request: axum::extract::Request| async move {
            assert_eq!(request.uri().path(), "/v1/traces");
            assert_eq!(request.headers()["content-type"], "application/x-protobuf");
            assert!(request.headers().contains_key("host"));
            let body = request.into_body().collect().await.expect("a body");
            let bodies = collector.bodies.lock();
            bodies.expect("nobody panics with it").push(body.to_bytes());
            let answer = ExportTraceServiceResponse {
                partial_success: (collector.rejects > 0).then(|| ExportTracePartialSuccess {
                    rejected_spans: collector.rejects,
                    error_message: String::new(),
                }),
            };
            (collector.status, answer.encode_to_vec()).into_response()
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/v1/traces")
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().expect("nobody panics with it").clone()
    }

    /// The spans, those that began first before others.
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for body in self.bodies() {
            let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
            for resource in request.resource_spans {
                let service = resource.resource.expect("a resource").attributes;
                let is_named = service.iter().any(|one| one.key == "service.name");
                assert!(is_named, "{service:?}");
                let scopes = resource.scope_spans.into_iter();
                spans.extend(scopes.flat_map(|scope| scope.spans));
            }
        }
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }
}

/// The text of a value, or another form of it.
fn shown(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(it) => it.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(all) => {
            let all = all.values.iter().filter_map(|one| one.value.as_ref());
            all.map(shown).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    Some(shown(found.value.as_ref()?.value.as_ref()?))
}

#[track_caller]
fn has(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let found = attribute(span, key);
        assert_eq!(found.as_deref(), Some(*value), "{key} of {span:?}");
    }
}

/// The first span with this name.
#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

fn status(span: &Span) -> SpanStatus {
    span.status.as_ref().map_or(SpanStatus::Unset, |status| {
        SpanStatus::try_from(status.code).expect("a status")
    })
}

/// An engine that notes the trace of each call. The model `silent` never answers, `broken` fails
/// after a word, `away` cannot be reached.
#[derive(Clone, Default)]
struct Engine(Arc<Mutex<Vec<Option<Box<Trace>>>>>);

impl Engine {
    fn note(&self, trace: Option<Box<Trace>>) {
        self.0.lock().expect("nobody panics with it").push(trace);
    }

    /// The ids of the trace and the span of the only call, and whether it is sampled.
    fn only(&self) -> Option<(String, String, bool)> {
        let calls = self.0.lock().expect("nobody panics with it");
        let [trace] = &calls[..] else {
            panic!("one call, and not {calls:?}");
        };
        let trace = trace.as_ref()?;
        Some((
            trace.trace_id().to_owned(),
            trace.span_id().to_owned(),
            trace.is_sampled(),
        ))
    }
}

impl Backend for Engine {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = Abilities {
            can: Abilities::default().can.with(Ability::Embeddings),
            ..Abilities::default()
        };
        Box::pin(std::future::ready(Ok(Arc::new(abilities))))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        self.note(call.head.trace.clone());
        let word = Event::Chunk(Chunk::of(ChunkChoice::delta(0, Delta::content("tongue"))));
        let finish = ChunkChoice::finish(0, FinishReason::Length);
        let rest = [
            Ok(Event::Chunk(Chunk::of(finish))),
            Ok(Event::Usage(CompletionUsage::new(3, 2))),
        ];
        let word = futures_util::stream::iter([Ok(word)]);
        let events = match call.work.model() {
            "away" => {
                return Box::pin(std::future::ready(Err(unreachable_backend())));
            }
            "silent" => word.chain(futures_util::stream::pending()).boxed(),
            "broken" => {
                let error = Err(BackendError::Unfinished);
                word.chain(futures_util::stream::iter([error])).boxed()
            }
            _ => word.chain(futures_util::stream::iter(rest)).boxed(),
        };
        Box::pin(std::future::ready(Ok(Reply {
            served_by: ServedBy::new("b", "real"),
            events,
        })))
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        self.note(call.head.trace.clone());
        Box::pin(std::future::ready(Ok(Embeddings {
            served_by: ServedBy::new("b", "real"),
            vectors: vec![vec![1.0]],
            prompt_tokens: 5,
        })))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A node that cannot be reached.
struct Away;

impl Backend for Away {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async { Err(unreachable_backend()) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Err(unreachable_backend()) })
    }
}

fn unreachable_backend() -> BackendError {
    BackendError::Unreachable {
        backend: "b".to_owned(),
    }
}

/// A node of the backend `b`.
fn node(host: &str) -> TracedServer {
    TracedServer {
        provider: "openai",
        backend: "b".to_owned(),
        address: Some((host.to_owned(), 8000)),
        peer: Some([192, 0, 2, 7].into()),
    }
}

/// A server that sends spans to a collector.
struct Server {
    app: App,
    /// Works on batches.
    work: JoinHandle<()>,
    engine: Engine,
    traces: Traces,
    metrics: Metrics,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Server {
    async fn new(collector: &Collector, sampler: Sampler) -> Self {
        Self::sending_to(&collector.listen().await, sampler)
    }

    fn sending_to(url: &str, sampler: Sampler) -> Self {
        let traces = Traces::start(url, sampler, &Handle::current()).expect("a URL");
        let engine = Engine::default();
        let backend = traces.wrap(Arc::new(engine.clone()), &node("gpu.example"));
        let queue = Queue::new(backend, 1, 10).with_on_waited(Some(traces.on_waited("b")));
        Self::over(Arc::new(queue), engine, traces)
    }

    fn over(backend: Arc<dyn Backend>, engine: Engine, traces: Traces) -> Self {
        let metrics = Metrics::default();
        let options = ServerOptions {
            traces: Some(traces.clone()),
            metrics: Some(metrics.clone()),
            ..ServerOptions::default()
        };
        let state = AppState::new(backend, Policy::default(), options)
            .with_store(Arc::new(MemoryStore::default()))
            .with_blobs(Arc::new(MemoryBlobs::default()));
        let work = tokio::spawn(state.work_on_batches(1, 1));
        Self {
            app: app(state),
            work,
            engine,
            traces,
            metrics,
        }
    }

    async fn start(
        &self,
        path: &str,
        body: &str,
        traceparent: Option<&str>,
    ) -> http::Response<axum::body::Body> {
        let mut request = Request::new(axum::body::Body::new(Full::from(body.to_owned())));
        if !body.is_empty() {
            *request.method_mut() = Method::POST;
        }
        *request.uri_mut() = path.parse().expect("a path");
        let headers = request.headers_mut();
        let json = "application/json".parse().expect("a header");
        headers.insert("content-type", json);
        if let Some(parent) = traceparent {
            headers.insert("traceparent", parent.parse().expect("a header"));
        }
        let answer = self.app.clone().oneshot(request).await;
        answer.expect("an answer")
    }

    /// Sends a request, and returns the answer.
    async fn json(&self, path: &str, body: &str, traceparent: Option<&str>) -> serde_json::Value {
        let answer = self.start(path, body, traceparent).await;
        let body = answer.into_body().collect().await.expect("a body");
        serde_json::from_slice(&body.to_bytes()).expect("JSON")
    }

    /// Sends a chat, and reads the answer.
    async fn chat(&self, model: &str, stream: bool, traceparent: Option<&str>) {
        let answer = self.start(CHAT, &chat(model, stream), traceparent).await;
        let body = answer.into_body().collect().await;
        body.expect("a body");
    }

    async fn finish(&self) {
        soon(self.traces.finish(Duration::from_secs(8))).await;
    }

    fn value(&self, series: &str) -> f64 {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    }

    fn dropped(&self, reason: &str) -> f64 {
        self.value(&format!(
            r#"loggia_spans_dropped_total{{reason="{reason}"}}"#
        ))
    }
}

const CHAT: &str = "/v1/chat/completions";

fn chat(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"max_tokens":7,"temperature":0.5,"stop":["secret stop"],
            "messages":[{{"role":"user","content":"secret words"}}]}}"#
    )
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SENDER}-{flags}")
}

#[tokio::test]
async fn a_request_and_its_call_have_spans_of_the_clients_trace() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    server.chat("m", true, Some(&parent("01"))).await;
    server.finish().await;
    let spans = collector.spans();
    let [request, call] = &spans[..] else {
        panic!("two spans, and not {spans:?}");
    };
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert_eq!(hex(&request.parent_span_id), SENDER);
    assert_eq!(call.parent_span_id, request.span_id);
    assert!(call.end_time_unix_nano >= call.start_time_unix_nano);
    let below = server.engine.only();
    let expected = (TRACE.to_owned(), hex(&call.span_id), true);
    assert_eq!(below, Some(expected));

    assert_eq!(request.name, "POST /v1/chat/completions");
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(status(request), SpanStatus::Unset);
    let of_request = [
        ("http.request.method", "POST"),
        ("http.route", CHAT),
        ("url.path", CHAT),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("loggia.outcome", "complete"),
        ("loggia.backend", "b"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.response.model", "real"),
        ("gen_ai.usage.input_tokens", "3"),
        ("gen_ai.usage.output_tokens", "2"),
    ];
    has(request, &of_request);
    assert!(attribute(request, "loggia.request_id").is_some());

    assert_eq!(call.name, "chat m");
    assert_eq!(call.kind(), SpanKind::Client);
    assert_eq!(status(call), SpanStatus::Unset);
    let of_call = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.request.stream", "true"),
        ("gen_ai.request.max_tokens", "7"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.response.model", "real"),
        ("gen_ai.response.finish_reasons", "length"),
        ("gen_ai.usage.input_tokens", "3"),
        ("gen_ai.usage.output_tokens", "2"),
        ("server.address", "gpu.example"),
        ("server.port", "8000"),
        ("network.peer.address", "192.0.2.7"),
        ("loggia.backend", "b"),
    ];
    has(call, &of_call);
    assert!(attribute(call, "gen_ai.response.time_to_first_chunk").is_some());
    assert!(attribute(call, "error.type").is_none());
    assert!((server.value("loggia_spans_exported_total") - 2.0).abs() < 0.1);
}

#[tokio::test]
async fn each_attempt_at_a_node_has_a_span_and_the_engine_gets_that_of_its_own() {
    let collector = Collector::default();
    let traces = Traces::start(
        &collector.listen().await,
        Sampler::default(),
        &Handle::current(),
    );
    let traces = traces.expect("a URL");
    let engine = Engine::default();
    let fleet = Fleet::new("b", Handle::current());
    fleet.add("a", traces.wrap(Arc::new(Away), &node("a.example")));
    fleet.add(
        "b",
        traces.wrap(Arc::new(engine.clone()), &node("b.example")),
    );
    let server = Server::over(Arc::new(fleet), engine, traces);
    server.chat("m", true, Some(&parent("01"))).await;
    server.finish().await;
    let spans = collector.spans();
    let [request, failed, answered] = &spans[..] else {
        panic!("three spans, and not {spans:?}");
    };
    for attempt in [failed, answered] {
        assert_eq!(attempt.name, "chat m");
        assert_eq!(attempt.kind(), SpanKind::Client);
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert_eq!(hex(&attempt.trace_id), TRACE);
    }
    has(
        failed,
        &[
            ("server.address", "a.example"),
            ("error.type", "unreachable"),
        ],
    );
    assert_eq!(status(failed), SpanStatus::Error);
    has(
        answered,
        &[
            ("server.address", "b.example"),
            ("gen_ai.usage.output_tokens", "2"),
        ],
    );
    assert_eq!(status(answered), SpanStatus::Unset);
    let below = (TRACE.to_owned(), hex(&answered.span_id), true);
    assert_eq!(server.engine.only(), Some(below));
    // The request itself succeeded.
    assert_eq!(status(request), SpanStatus::Unset);
}

#[tokio::test]
async fn a_background_response_has_a_span_below_its_request() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    let asks = r#"{"model":"m","background":true,"input":"x"}"#;
    server
        .json("/v1/responses", asks, Some(&parent("01")))
        .await;
    until(|| server.value("loggia_background_responses") < 0.1).await;
    server.finish().await;
    let spans = collector.spans();
    let request = named(&spans, "POST /v1/responses");
    let (response, call) = (
        named(&spans, "background response"),
        named(&spans, "chat m"),
    );
    assert!(attribute(request, "gen_ai.usage.input_tokens").is_none());
    for below in [response, call] {
        assert_eq!(below.parent_span_id, request.span_id);
        assert_eq!(hex(&below.trace_id), TRACE);
        has(below, &[("gen_ai.usage.input_tokens", "3")]);
    }
    has(
        response,
        &[
            ("loggia.outcome", "complete"),
            ("gen_ai.request.model", "m"),
        ],
    );
    assert_eq!(response.kind(), SpanKind::Internal);
    assert!(response.start_time_unix_nano <= call.start_time_unix_nano);
    assert!(response.end_time_unix_nano >= call.end_time_unix_nano);
}

#[tokio::test]
async fn a_line_of_a_batch_begins_a_trace() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    let asks = r#"{"requests":[{"custom_id":"a","params":
        {"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}}]}"#;
    let path = "/v1/messages/batches";
    let batch = server.json(path, asks, Some(&parent("01"))).await;
    let path = format!("{path}/{}", batch["id"].as_str().expect("an id"));
    soon(async {
        while server.json(&path, "", Some(&parent("00"))).await["processing_status"] != "ended" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.finish().await;
    let spans = collector.spans();
    let [asked, line, call] = &spans[..] else {
        panic!("three spans, and not {spans:?}");
    };
    assert_eq!(asked.name, "POST /v1/messages/batches");
    assert_eq!(line.name, "POST /v1/messages");
    assert_eq!(line.kind(), SpanKind::Internal);
    assert!(line.parent_span_id.is_empty() && line.trace_id != asked.trace_id);
    has(
        line,
        &[
            ("gen_ai.usage.output_tokens", "2"),
            ("loggia.outcome", "complete"),
        ],
    );
    assert_eq!(call.parent_span_id, line.span_id);
}

#[tokio::test]
async fn no_span_has_text_of_the_client_or_of_the_model() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    for model in ["m", "broken", "away"] {
        for stream in [true, false] {
            server.chat(model, stream, None).await;
        }
    }
    let anthropic = r#"{"model":"m","max_tokens":9,"system":"secret words","messages":[{"role":"user","content":"secret words"}]}"#;
    let responses =
        r#"{"model":"m","store":false,"input":"secret words","instructions":"secret words"}"#;
    let embeddings = r#"{"model":"m","input":"secret words"}"#;
    for (path, body) in [
        ("/v1/messages", anthropic),
        ("/v1/responses", responses),
        ("/v1/embeddings", embeddings),
        (
            "/v1/completions",
            r#"{"model":"m","prompt":"secret words"}"#,
        ),
        ("/v1/chat/completions?secret=words", "secret words"),
    ] {
        let answer = server.start(path, body, None).await;
        drop(answer.into_body().collect().await);
    }
    server.finish().await;
    assert!(collector.spans().len() >= 20);
    for body in collector.bodies() {
        let text = String::from_utf8_lossy(&body);
        assert!(
            !text.contains("secret") && !text.contains("tongue"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_trace_that_its_sender_does_not_record_passes_by() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    server.chat("m", false, Some(&parent("00"))).await;
    server.finish().await;
    assert!(collector.spans().is_empty());
    let same = (TRACE.to_owned(), SENDER.to_owned(), false);
    assert_eq!(server.engine.only(), Some(same));
}

#[tokio::test]
async fn a_request_of_no_trace_begins_one_and_engines_hear_whether_it_is_recorded() {
    for (sampler, is_sampled) in [("always_on", true), ("always_off", false)] {
        let collector = Collector::default();
        let sampler = Sampler::named(sampler, None).expect("a sampler");
        let server = Server::new(&collector, sampler).await;
        server.chat("m", false, None).await;
        server.finish().await;
        let (trace, span, is_recorded) = server.engine.only().expect("a trace");
        assert_eq!(is_recorded, is_sampled);
        let spans = collector.spans();
        if is_sampled {
            assert!(spans[0].parent_span_id.is_empty(), "{spans:?}");
            let ids = (hex(&spans[1].trace_id), hex(&spans[1].span_id));
            assert_eq!((trace, span), ids);
        } else {
            assert!(spans.is_empty());
        }
    }
}

#[tokio::test]
async fn errors_and_clients_that_left_are_told_apart() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    server.chat("broken", true, None).await;
    server.chat("away", false, None).await;
    let leaves = server.start(CHAT, &chat("silent", true), None).await;
    let mut leaves = leaves.into_body();
    leaves.frame().await.expect("a frame").expect("it is whole");
    drop(leaves);
    let wrong = server.start(CHAT, "{}", None).await;
    drop(wrong.into_body().collect().await);
    server.finish().await;
    let spans = collector.spans();
    let broken = named(&spans, "chat broken");
    has(
        broken,
        &[
            ("error.type", "unfinished"),
            ("gen_ai.response.finish_reasons", "error"),
        ],
    );
    assert_eq!(status(broken), SpanStatus::Error);
    let away = named(&spans, "chat away");
    has(away, &[("error.type", "unreachable")]);
    assert!(attribute(away, "gen_ai.response.finish_reasons").is_none());
    let left = named(&spans, "chat silent");
    has(left, &[("error.type", "cancelled")]);
    assert_eq!(status(left), SpanStatus::Unset);
    let requests: Vec<_> = spans
        .iter()
        .filter(|span| span.kind() == SpanKind::Server)
        .map(|span| {
            let error = attribute(span, "error.type").is_some();
            let outcome = attribute(span, "loggia.outcome").unwrap_or_default();
            let code = attribute(span, "http.response.status_code").unwrap_or_default();
            (code, outcome, error, status(span))
        })
        .collect();
    let of = |code: &str, outcome: &str, error, status| {
        (code.to_owned(), outcome.to_owned(), error, status)
    };
    assert_eq!(
        requests,
        [
            of("200", "failed", true, SpanStatus::Error),
            of("502", "failed", true, SpanStatus::Error),
            of("200", "abandoned", false, SpanStatus::Unset),
            of("400", "failed", true, SpanStatus::Unset),
        ]
    );
}

#[tokio::test]
async fn the_wait_for_a_turn_has_a_span() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    let first = server.start(CHAT, &chat("silent", true), None).await;
    let sender = parent("01");
    let second = server.chat("m", false, Some(&sender));
    let mut second = std::pin::pin!(second);
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    soon(second).await;
    server.finish().await;
    let spans = collector.spans();
    let (wait, call) = (named(&spans, "queue b"), named(&spans, "chat m"));
    assert_eq!(hex(&wait.trace_id), TRACE);
    assert_eq!(wait.parent_span_id, call.parent_span_id);
    assert_eq!(wait.kind(), SpanKind::Internal);
    assert!(wait.end_time_unix_nano <= call.end_time_unix_nano);
    let waits = spans.iter().filter(|span| span.name.starts_with("queue"));
    assert_eq!(waits.count(), 1);
}

#[tokio::test]
async fn embeddings_have_a_span_without_an_answer() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    let body = r#"{"model":"m","input":"x"}"#;
    let answer = server.start("/v1/embeddings", body, None).await;
    drop(answer.into_body().collect().await);
    server.finish().await;
    let spans = collector.spans();
    let call = &spans[1];
    assert_eq!(call.name, "embeddings m");
    let expected = [
        ("gen_ai.operation.name", "embeddings"),
        ("gen_ai.usage.input_tokens", "5"),
    ];
    has(call, &expected);
    assert!(attribute(call, "gen_ai.usage.output_tokens").is_none());
}

#[tokio::test]
async fn what_only_the_server_answers_has_no_span() {
    let collector = Collector::default();
    let server = Server::new(&collector, Sampler::default()).await;
    for path in ["/healthz", "/metrics", "/v1/unknown"] {
        server.start(path, "", Some(&parent("01"))).await;
    }
    server.finish().await;
    assert!(collector.spans().is_empty());
}

/// The address of a server that accepts connections and never answers.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_time() {
    let (listener, address) = silent().await;
    drop(listener);
    let url = format!("http://{address}/v1/traces");
    let server = Server::sending_to(&url, Sampler::default());
    server.chat("m", false, None).await;
    server.finish().await;
    assert!((server.dropped("failed") - 2.0).abs() < 0.1);
    assert!(server.value("loggia_spans_exported_total") < 0.1);
}

#[tokio::test]
async fn a_collector_that_never_answers_fills_the_queue_and_holds_nothing_up() {
    let (_listener, address) = silent().await;
    let url = format!("http://{address}/v1/traces");
    let server = Server::sending_to(&url, Sampler::default());
    // More than wait at once and are on their way, at two spans each.
    for _ in 0..1400 {
        server.chat("m", false, None).await;
    }
    assert!(server.dropped("queue_full") > 0.0);
    let since = Instant::now();
    server.traces.finish(Duration::from_millis(100)).await;
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn spans_that_a_collector_refuses_are_counted() {
    let refusing = Collector {
        status: StatusCode::BAD_REQUEST,
        ..Collector::default()
    };
    let server = Server::new(&refusing, Sampler::default()).await;
    server.chat("m", false, None).await;
    server.finish().await;
    assert!((server.dropped("failed") - 2.0).abs() < 0.1);

    let rejecting = Collector {
        rejects: 1,
        ..Collector::default()
    };
    let server = Server::new(&rejecting, Sampler::default()).await;
    server.chat("m", false, None).await;
    server.finish().await;
    assert!((server.dropped("rejected") - 1.0).abs() < 0.1);
    assert!((server.value("loggia_spans_exported_total") - 1.0).abs() < 0.1);
}
