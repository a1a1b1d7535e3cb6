//! Any bytes as the body of a chat request, through the whole of `OpenAiLayer`, to an Ollama that
//! accepts every request.
//!
//! Every part runs: fields are handled, schemas are walked, calls are emulated, the request is
//! translated, and the answer is encoded. Whatever the request is, the answer or the error must
//! have OpenAI's format and must not be a 500, and the request to Ollama must be JSON that does not
//! allow truncation.
#![no_main]

use std::cell::LazyCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use loggia_api::{OpenAiLayer, Policy, Strictness};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};

const SHOW: &str = r#"{"capabilities":["completion","tools","vision","thinking"],"model_info":{"llama.context_length":8192},"details":{}}"#;
const SAID: &str = r#"{"model":"m","created_at":"2026-11-22T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":1}"#;

thread_local! {
    static RUNTIME: LazyCell<tokio::runtime::Runtime> =
        LazyCell::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

async fn ollama(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    let answer = match path.as_str() {
        "/api/show" => SHOW.to_owned(),
        "/api/ps" | "/api/tags" => r#"{"models":[]}"#.to_owned(),
        "/api/version" => r#"{"version":"0.33.0"}"#.to_owned(),
        _ => {
            let sent: Value = serde_json::from_slice(&body).expect("what is sent is JSON");
            assert_eq!(
                (&sent["truncate"], &sent["shift"]),
                (&Value::Bool(false), &Value::Bool(false))
            );
            assert!(sent["stream"].is_boolean() && sent["messages"].is_array());
            format!("{SAID}\n")
        }
    };
    Ok(Response::new(Full::from(answer)))
}

fuzz_target!(|body: &[u8]| {
    let strictness = [Strictness::Plain, Strictness::Strict, Strictness::Lenient][body.len() % 3];
    let policy = Policy {
        strictness,
        ..Policy::default()
    };
    let request = Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Full::from(body.to_vec()))
        .expect("a request");
    let (head, body) = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let layered = OpenAiLayer::with_policy(policy).layer(service_fn(ollama));
            let (head, body) = layered
                .oneshot(request)
                .await
                .expect("an answer")
                .into_parts();
            (
                head,
                body.collect().await.expect("a whole answer").to_bytes(),
            )
        })
    });
    if let Some(ignored) = head.headers.get("x-loggia-ignored") {
        assert!(
            ignored.len() < 4096 && ignored.to_str().is_ok(),
            "{ignored:?}"
        );
    }
    if head.status != 200 {
        assert!(head.status.is_client_error(), "{}", head.status);
        let error: Value = serde_json::from_slice(&body).expect("an error is JSON");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
    } else if head.headers["content-type"] == "text/event-stream" {
        assert!(
            body.ends_with(b"data: [DONE]\n\n"),
            "{}",
            String::from_utf8_lossy(&body)
        );
    } else {
        let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
        assert_eq!(answer["object"], "chat.completion");
    }
});
