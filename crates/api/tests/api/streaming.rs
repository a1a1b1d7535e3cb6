//! The timing of streams: the first chunk is sent before the second line exists, heartbeats fill
//! silence, and a client that leaves stops the engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use loggia_api::{Door, OpenAiLayer, Policy};
use loggia_backend::{Abilities, Backend, BackendError, Call, Reply};
use loggia_wire::openai::Model;
use tokio::sync::{mpsc, oneshot};
use tower::{Layer, ServiceExt, service_fn};

const CHAT: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;

fn line(content: &str) -> Bytes {
    format!("{{\"message\":{{\"content\":\"{content}\"}},\"done\":false}}\n").into()
}

fn post() -> Request<Full<Bytes>> {
    Request::post("/v1/chat/completions")
        .body(Full::new(Bytes::from(CHAT)))
        .expect("a request")
}

/// Reports when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

type Lines = mpsc::Receiver<Bytes>;
type Streamed = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

fn streamed(lines: Lines, guard: Dropped) -> Streamed {
    let frames = futures_util::stream::unfold((lines, guard), |(mut lines, guard)| async move {
        lines
            .recv()
            .await
            .map(|line| (Ok(Frame::data(line)), (lines, guard)))
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn not_found() -> Streamed {
    let mut response = Response::new(Full::new(Bytes::from("404 page not found")).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// The layer around a service that answers a chat with lines that the test sends. It begins its
/// answer `after` the test permits it.
fn withheld(
    policy: Policy,
    lines: Lines,
    after: oneshot::Receiver<()>,
    gone: Arc<AtomicBool>,
) -> impl Future<
    Output = http::Response<
        loggia_api::EitherBody<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>,
    >,
> {
    let once = Arc::new(std::sync::Mutex::new(Some((lines, after, Dropped(gone)))));
    let inner = service_fn(move |request: Request<Full<Bytes>>| {
        let taken = if request.uri().path() == "/api/chat" {
            once.lock().expect("no panic").take()
        } else {
            None
        };
        async move {
            let Some((lines, after, guard)) = taken else {
                return Ok::<_, Infallible>(not_found());
            };
            let _ = after.await;
            Ok(streamed(lines, guard))
        }
    });
    let service = OpenAiLayer::with_policy(policy).layer(inner);
    async move { service.oneshot(post()).await.expect("infallible") }
}

#[tokio::test]
async fn the_first_chunk_leaves_before_the_second_line_exists() {
    let (lines, receiver) = mpsc::channel(1);
    let (go, after) = oneshot::channel();
    let gone = Arc::new(AtomicBool::new(false));
    go.send(()).expect("awaited");
    lines.send(line("one")).await.expect("room");
    let response = withheld(Policy::default(), receiver, after, Arc::clone(&gone)).await;
    let mut body = Box::pin(response.into_body().into_data_stream());
    let first = body.try_next().await.expect("no error").expect("a chunk");
    assert!(
        first.starts_with(b"data: {") && first.ends_with(b"}\n\n"),
        "{first:?}"
    );
    lines.send(line("two")).await.expect("room");
    assert!(
        body.try_next()
            .await
            .expect("no error")
            .expect("a chunk")
            .windows(3)
            .any(|three| three == b"two")
    );
    drop(body);
    assert!(
        gone.load(Ordering::SeqCst),
        "the connection to Ollama is closed when the client leaves"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_too_long_is_begun_with_heartbeats() {
    let (lines, receiver) = mpsc::channel(1);
    let (go, after) = oneshot::channel();
    let gone = Arc::new(AtomicBool::new(false));
    let response = withheld(Policy::default(), receiver, after, gone).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = Box::pin(response.into_body().into_data_stream());
    for _ in 0..3 {
        let heartbeat = body
            .try_next()
            .await
            .expect("no error")
            .expect("a heartbeat");
        assert!(heartbeat.starts_with(b": "), "{heartbeat:?}");
    }
    go.send(()).expect("awaited");
    lines.send(line("late")).await.expect("room");
    let chunk = body.try_next().await.expect("no error").expect("a chunk");
    assert!(chunk.starts_with(b"data: {"), "{chunk:?}");
    drop(lines);
    let rest: Vec<Bytes> = body.map(|frame| frame.expect("no error")).collect().await;
    assert!(
        rest.concat().starts_with(b"data: {\"error\":{"),
        "a late failure is an event: {rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_every_0_seconds_is_the_first_alone() {
    let (_lines, receiver) = mpsc::channel(1);
    let (_go, after) = oneshot::channel();
    let policy = Policy {
        heartbeat_every: Duration::ZERO,
        ..Policy::default()
    };
    let response = withheld(policy, receiver, after, Arc::default()).await;
    let mut body = Box::pin(response.into_body().into_data_stream());
    assert!(
        body.try_next()
            .await
            .expect("no error")
            .expect("a heartbeat")
            .starts_with(b": ")
    );
    let second = tokio::time::timeout(Duration::from_mins(1), body.try_next()).await;
    assert!(second.is_err(), "{second:?}");
}

/// A backend that must load its model before it knows the model's abilities, and then cannot
/// answer.
struct Loading(tokio::sync::Semaphore);

impl Backend for Loading {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async {
            let _loaded = self.0.acquire().await;
            Ok(Arc::default())
        })
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async { Err(BackendError::NoModels) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_heartbeats_while_its_model_is_still_being_loaded() {
    let loading = Arc::new(Loading(tokio::sync::Semaphore::new(0)));
    let chat = CHAT.replace("\"stream\"", "\"store\":true,\"stream\"");
    let request = Request::post("/v1/chat/completions")
        .body(Full::new(Bytes::from(chat)))
        .expect("a request");
    let response = Door::new(loading.clone(), Policy::default())
        .serve(request)
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    assert!(
        body.try_next()
            .await
            .expect("no error")
            .expect("a heartbeat")
            .starts_with(b": still")
    );
    loading.0.add_permits(1);
    let rest: Vec<Bytes> = body.map(|frame| frame.expect("no error")).collect().await;
    let rest = String::from_utf8(rest.concat()).expect("UTF-8");
    assert!(
        rest.starts_with(": x-loggia-ignored: store\n\n"),
        "what has no effect is named where headers are gone: {rest}"
    );
    assert!(
        rest.contains("data: {\"error\":{") && !rest.contains("[DONE]"),
        "{rest}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_begins_has_the_same_time_as_any_other() {
    let mut policy = Policy {
        heartbeat_after: None,
        ..Policy::default()
    };
    policy.ceilings.whole_time = Some(Duration::from_mins(5));
    let (_lines, receiver) = mpsc::channel(1);
    let (_go, after) = oneshot::channel();
    let response = withheld(policy, receiver, after, Arc::default()).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_can_be_turned_off() {
    let mut policy = Policy {
        heartbeat_after: None,
        ..Policy::default()
    };
    policy.ceilings.whole_time = None;
    let (_lines, receiver) = mpsc::channel(1);
    let (_go, after) = oneshot::channel();
    let response = withheld(policy, receiver, after, Arc::default());
    assert!(
        tokio::time::timeout(Duration::from_hours(1), response)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_brings_the_call_down() {
    let (_lines, receiver) = mpsc::channel(1);
    let (_go, after) = oneshot::channel::<()>();
    let gone = Arc::new(AtomicBool::new(false));
    let mut response = Box::pin(withheld(
        Policy::default(),
        receiver,
        after,
        Arc::clone(&gone),
    ));
    assert!(futures_util::FutureExt::now_or_never(&mut response).is_none());
    drop(response);
    assert!(gone.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_altogether_is_ended_with_an_error() {
    let mut policy = Policy::default();
    policy.ceilings.whole_time = Some(Duration::from_mins(1));
    let (lines, receiver) = mpsc::channel(1);
    let (go, after) = oneshot::channel();
    let gone = Arc::new(AtomicBool::new(false));
    go.send(()).expect("awaited");
    lines.send(line("one")).await.expect("room");
    let response = withheld(policy, receiver, after, Arc::clone(&gone)).await;
    let frames: Vec<Bytes> = response
        .into_body()
        .into_data_stream()
        .map(|frame| frame.expect("no error"))
        .collect()
        .await;
    let text = String::from_utf8(frames.concat()).expect("UTF-8");
    assert!(
        text.contains("\"code\":\"backend_timeout\"") && !text.contains("[DONE]"),
        "{text}"
    );
    assert!(gone.load(Ordering::SeqCst));
}

/// The server holds such a future for each request that waits for an engine.
#[test]
fn a_request_that_waits_for_an_engine_takes_little_memory() {
    let backend = Arc::new(Loading(tokio::sync::Semaphore::new(0)));
    let door = Door::new(backend, Policy::default());
    let size = size_of_val(&door.serve(post()));
    assert!(size <= 2600, "{size} bytes");
}
