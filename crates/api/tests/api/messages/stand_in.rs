//! Requests to a door whose engine gives the answers that a test sets.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::{Door, Policy, RequestId, Strictness};
use loggia_backend::Backend;
use loggia_backend::emulate::Emulate;
use serde_json::{Value, json};

use super::state_machine::checked;
pub(crate) use crate::responses::stand_in::{KINDS, Kind, StandIn, call};
use crate::support::Answer;

/// A request with one message, and more fields.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
pub(crate) fn hi(more: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut body = json!({"model": "m", "max_tokens": 100, "messages": messages});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    body
}

/// Sends a request with these headers to a door with this engine.
pub(crate) async fn send(
    engine: &Arc<StandIn>,
    policy: Policy,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    request.extensions_mut().insert(RequestId("req_1".into()));
    let response = door(engine, policy).serve(request).await;
    answer(response).await
}

/// A door with this engine.
pub(crate) fn door(engine: &Arc<StandIn>, policy: Policy) -> Door {
    let backend = Emulate::new(Arc::clone(engine) as Arc<dyn Backend>);
    Door::new(Arc::new(backend), policy)
}

/// Asks a door for a message.
pub(crate) async fn ask_door(door: &Door, body: &Value) -> Answer {
    let mut request = Request::post("/v1/messages")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    request.extensions_mut().insert(RequestId("req_1".into()));
    answer(door.serve(request).await).await
}

async fn answer(response: http::Response<loggia_api::Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("no error").to_bytes();
    Answer {
        head: http::Response::from_parts(parts, ()),
        body,
    }
}

/// Asks for a message.
pub(crate) async fn ask(engine: &Arc<StandIn>, policy: Policy, body: &Value) -> Answer {
    let headers = [("anthropic-version", "2023-06-01")];
    let path = "/v1/messages?beta=true";
    send(
        engine,
        policy,
        Method::POST,
        path,
        &headers,
        body.to_string(),
    )
    .await
}

/// Returns the message, complete and streamed: both are equal, and the stream follows the rules.
pub(crate) async fn message(engine: StandIn, body: &Value) -> (Value, Arc<StandIn>) {
    let engine = Arc::new(engine);
    let mut complete = body.clone();
    complete["stream"] = json!(false);
    let whole = ask(&engine, Policy::default(), &complete).await;
    assert_eq!(whole.status(), 200, "{}", whole.text());
    assert_eq!(whole.header("request-id"), Some("req_1"));
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let stream = ask(&engine, Policy::default(), &streamed).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("request-id"), Some("req_1"));
    let end = checked(stream.text());
    let (whole, end) = (without_ids(whole.json()), without_ids(end));
    assert_eq!(whole, end, "a stream adds up to the complete message");
    (end, engine)
}

/// Shortens the ids that are new each time to their beginnings.
fn without_ids(mut message: Value) -> Value {
    let shorten = |id: &mut Value| {
        let text = id.as_str().unwrap_or_default();
        if text.len() > 20 {
            *id = json!(text.split_inclusive('_').next().unwrap_or_default());
        }
    };
    shorten(&mut message["id"]);
    for block in message["content"].as_array_mut().expect("a list") {
        if block["type"] == "tool_use" {
            shorten(&mut block["id"]);
        }
    }
    message
}

/// Returns the messages of the chat that the engine gets for a request with these fields.
pub(crate) async fn chat_of(more: Value) -> Value {
    let (_, engine) = message(StandIn::hello(), &hi(more)).await;
    engine.asked()
}

/// Returns the status, the type and the message of the error of a refused request.
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
    error_of(&answer)
}

/// Returns the status, the type and the message of an error, whose form is checked.
pub(crate) fn error_of(answer: &Answer) -> (u16, String, String) {
    let error = answer.json();
    assert_eq!(error["type"], "error", "{error}");
    assert_eq!(error["request_id"], "req_1", "{error}");
    assert_eq!(answer.header("request-id"), Some("req_1"));
    assert_eq!(error.as_object().expect("an object").len(), 3, "{error}");
    let text = |key: &str| error["error"][key].as_str().expect("a text").to_owned();
    (answer.status(), text("type"), text("message"))
}

/// Returns the header `x-loggia-ignored`.
pub(crate) async fn ignored(kind: Kind, body: &Value) -> String {
    let engine = Arc::new(StandIn::hello().of(kind));
    let answer = ask(&engine, Policy::default(), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
        .header("x-loggia-ignored")
        .unwrap_or_default()
        .to_owned()
}
