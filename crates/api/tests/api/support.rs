//! A scripted service that speaks Ollama, and the layer around it. Tests see the bytes that go in
//! and out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Ready, ready};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use loggia_api::{OpenAi, OpenAiLayer, Policy, Strictness};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt};

pub(crate) type Inner = UnsyncBoxBody<Bytes, Infallible>;

/// A status and the packets of a body.
type Scripts = (StatusCode, Vec<Bytes>);

/// A request without its body, and the body.
type ReceivedRequest = (Request<()>, Bytes);

/// Answers each path with its script, and keeps every request.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    answers: Arc<Mutex<HashMap<String, Scripts>>>,
    firsts: Arc<Mutex<HashMap<String, Scripts>>>,
    pub(crate) seen: Arc<Mutex<Vec<ReceivedRequest>>>,
}

/// A model for which Ollama reports only the ability `completion`.
pub(crate) fn plain_model() -> Scripted {
    let (status, show) = recording("server/show");
    Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole")
}

pub(crate) fn strict() -> Policy {
    Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    }
}

impl Scripted {
    /// Answers `path` with these packets.
    pub(crate) fn on(
        self,
        path: &str,
        status: u16,
        packets: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        let packets = packets.into_iter().map(Into::into).collect();
        self.answers
            .lock()
            .expect("no panic")
            .insert(path.to_owned(), (status, packets));
        self
    }

    /// Answers the first request to `path` with these packets.
    pub(crate) fn first(
        self,
        path: &str,
        status: u16,
        packets: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        let packets = packets.into_iter().map(Into::into).collect();
        self.firsts
            .lock()
            .expect("no panic")
            .insert(path.to_owned(), (status, packets));
        self
    }

    /// Answers `/api/chat` with a recording of a real Ollama.
    pub(crate) fn recorded(self, name: &str) -> Self {
        let (status, body) = recording(name);
        self.on("/api/chat", status, [body])
    }

    /// The JSON of each request to `path`.
    fn asked(&self, path: &str) -> Vec<Value> {
        let seen = self.seen.lock().expect("no panic");
        let asked = seen.iter().filter(|(head, _)| head.uri().path() == path);
        asked
            .map(|(_, body)| serde_json::from_slice(body).expect("JSON"))
            .collect()
    }

    /// The JSON of each request to `/api/chat`.
    pub(crate) fn chats(&self) -> Vec<Value> {
        self.asked("/api/chat")
    }

    /// The JSON of the last request to `path`.
    pub(crate) fn last(&self, path: &str) -> Value {
        self.asked(path).pop().expect("a request")
    }

    /// Returns the JSON of the last request to `/api/chat`.
    pub(crate) fn last_chat(&self) -> Value {
        self.chats().pop().expect("a chat")
    }
}

impl Service<Request<Full<Bytes>>> for Scripted {
    type Response = Response<Inner>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Inner>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let mut bytes = Bytes::new();
        if let Some(Ok(frame)) = futures_util::FutureExt::now_or_never(body.frame()).flatten() {
            bytes = frame.into_data().unwrap_or_default();
        }
        self.seen
            .lock()
            .expect("no panic")
            .push((Request::from_parts(parts, ()), bytes));
        let first = self.firsts.lock().expect("no panic").remove(&path);
        let answer = first.or_else(|| self.answers.lock().expect("no panic").get(&path).cloned());
        let (status, packets) = answer.unwrap_or((
            StatusCode::NOT_FOUND,
            vec![Bytes::from("404 page not found")],
        ));
        let packets = packets.into_iter().map(|packet| Ok(Frame::data(packet)));
        let mut response =
            Response::new(StreamBody::new(futures_util::stream::iter(packets)).boxed_unsync());
        *response.status_mut() = status;
        ready(Ok(response))
    }
}

/// Returns the status and body of a recording under `fixtures/ollama`.
pub(crate) fn recording(name: &str) -> (u16, Bytes) {
    let path = format!(
        "{}/../../fixtures/ollama/{name}.response.http",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let head_end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| (at, at + 4));
    let (end, body) = head_end
        .or_else(|| {
            bytes
                .windows(2)
                .position(|two| two == b"\n\n")
                .map(|at| (at, at + 2))
        })
        .expect("a head");
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (status, Bytes::copy_from_slice(&bytes[body..]))
}

/// The answer: status, headers, body.
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .headers()
            .get(name)
            .map(|value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// Returns the data of each event. Skips comments.
    pub(crate) fn events(&self) -> Vec<&str> {
        let text = self.text();
        assert!(
            text.ends_with("\n\n"),
            "the last event has no end: {text:?}"
        );
        text.split_terminator("\n\n")
            .filter(|event| !event.starts_with(": "))
            .map(|event| event.strip_prefix("data: ").expect("data"))
            .collect()
    }

    /// Returns the JSON of each event except `[DONE]`.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let json = events.iter().filter(|event| **event != "[DONE]");
        json.map(|event| serde_json::from_str(event).expect("JSON"))
            .collect()
    }
}

/// The layer around a scripted service.
pub(crate) fn layered(inner: &Scripted, policy: Policy) -> OpenAi<Scripted> {
    OpenAiLayer::with_policy(policy).layer(inner.clone())
}

pub(crate) async fn send(service: &OpenAi<Scripted>, request: Request<Full<Bytes>>) -> Answer {
    let response = service.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let mut frames = Box::pin(body.into_data_stream());
    let mut all = Vec::new();
    while let Some(frame) = frames.next().await {
        all.extend_from_slice(&frame.expect("a frame"));
    }
    Answer {
        head: Response::from_parts(parts, ()),
        body: all.into(),
    }
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Full::new(body.into())).expect("a request")
}

/// Sends a chat.
pub(crate) async fn chat(inner: &Scripted, policy: Policy, body: Value) -> Answer {
    send(
        &layered(inner, policy),
        post("/v1/chat/completions", body.to_string()),
    )
    .await
}

/// A chat with one user message and more fields.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
pub(crate) fn hello(more: Value) -> Value {
    let mut body =
        json!({"model": "smollm2:135m", "messages": [{"role": "user", "content": "Hello"}]});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    body
}
