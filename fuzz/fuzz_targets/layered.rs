//! `OpenAiLayer` over an Ollama that accepts every request, for targets that send it any body.

use std::cell::LazyCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use loggia_api::{OpenAiLayer, Policy, Strictness};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};

const SHOW: &str = r#"{"capabilities":["completion","tools","vision","thinking"],"model_info":{"llama.context_length":8192},"details":{}}"#;
const SAID: &str = r#"{"model":"m","created_at":"2026-11-22T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":1}"#;

thread_local! {
    static RUNTIME: LazyCell<tokio::runtime::Runtime> =
        LazyCell::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// Posts a body to a path, and returns the answer. The length of the body selects the strictness.
pub fn post(path: &str, body: &[u8]) -> (Parts, Bytes) {
    let strictness = [Strictness::Plain, Strictness::Strict, Strictness::Lenient][body.len() % 3];
    let policy = Policy {
        strictness,
        ..Policy::default()
    };
    let request = Request::post(path)
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
    (head, body)
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
