//! Lines of batches: each is in the access log like the request of a client.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use loggia_api::{Caller, MemoryBlobs, MemoryStore, Policy};
use loggia_backend::{Abilities, Backend, BackendError, Call, Chunk, Event, Reply, ServedBy};
use loggia_server::{AppState, KeyDigest, Keys, ServerOptions, app};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::test_server::{Log, soon};

const KEY: &str = "secret-of-alice-1";
const BOUNDARY: &str = "boundary";

/// A backend that answers at once, except that the model `clumsy` panics and `never` never answers.
struct Prompt;

impl Backend for Prompt {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let model = call.work.model().to_owned();
        Box::pin(async move {
            assert_ne!(model, "clumsy", "a panic that quotes: secret words");
            let chunks = [
                ChunkChoice::delta(0, Delta::content("one")),
                ChunkChoice::finish(0, FinishReason::Stop),
            ];
            let chunks = chunks.map(|choice| Event::Chunk(Chunk::of(choice)));
            let usage = Event::Usage(CompletionUsage::new(3, 2));
            let events = chunks.into_iter().chain([usage]).map(Ok);
            let events = futures_util::stream::iter(events);
            Ok(Reply {
                served_by: ServedBy::new("b", "m"),
                events: if model == "never" {
                    futures_util::stream::pending().boxed()
                } else {
                    events.boxed()
                },
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

fn state() -> AppState {
    let alice = Caller {
        name: "alice".into(),
        strictness: None,
        models: None,
        may_delete_models: false,
        may_have_priority: false,
    };
    let options = ServerOptions {
        keys: Keys::new([(KeyDigest::of(KEY), alice)]),
        ..ServerOptions::default()
    };
    AppState::new(Arc::new(Prompt), Policy::default(), options)
        .with_store(Arc::new(MemoryStore::default()))
        .with_blobs(Arc::new(MemoryBlobs::default()))
}

async fn ask(app: &axum::Router, method: Method, path: &str, body: (&str, String)) -> Value {
    let mut request = Request::new(axum::body::Body::new(Full::from(body.1)));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("a path");
    let headers = request.headers_mut();
    headers.insert(
        "authorization",
        format!("Bearer {KEY}").parse().expect("a header"),
    );
    headers.insert("content-type", body.0.parse().expect("a header"));
    let answer = app.clone().oneshot(request).await.expect("an answer");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

/// Creates a batch with a chat for each model. Returns the path of the batch.
async fn create_batch(app: &axum::Router, models: &[&str]) -> String {
    let line = |(number, model): (usize, &&str)| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "secret"}]});
        let line = json!({"custom_id": number.to_string(), "method": "POST",
            "url": "/v1/chat/completions", "body": body});
        format!("{line}\n")
    };
    let lines: String = models.iter().enumerate().map(line).collect();
    let form = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n\
         {lines}\r\n--{BOUNDARY}--\r\n"
    );
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let file = ask(app, Method::POST, "/v1/files", (&kind, form)).await;
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions",
        "completion_window": "24h"});
    let json = ("application/json", batch.to_string());
    let batch = ask(app, Method::POST, "/v1/batches", json).await;
    format!("/v1/batches/{}", batch["id"].as_str().expect("an id"))
}

/// The lines of the log that are about lines of batches, in the order of the alphabet.
fn of_batches(log: &Log) -> Vec<String> {
    let answered = log.answered().into_iter();
    let mut of_batches: Vec<String> = answered
        .filter(|line| line.contains("batch=true"))
        .collect();
    of_batches.sort();
    of_batches
}

#[tokio::test]
async fn a_line_of_a_batch_is_in_the_log_with_its_key_and_its_tokens() {
    let log = Log::default();
    let _logging = log.everything();
    let state = state();
    let in_flight = state.in_flight().clone();
    let work = tokio::spawn(state.work_on_batches(2, 1));
    let app = app(state);
    let path = create_batch(&app, &["one", "two"]).await;
    let batch = soon(async {
        loop {
            let batch = ask(&app, Method::GET, &path, ("", String::new())).await;
            if batch["status"] == "completed" {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    work.abort();
    assert_eq!(batch["usage"]["total_tokens"], 10, "{batch}");
    let line = r#"method="POST" route="/v1/chat/completions" status=200 key="alice" batch=true outcome="complete" prompt_tokens=3 completion_tokens=2"#;
    assert_eq!(of_batches(&log), [line, line]);
    assert_eq!(in_flight.count(), 0);
    assert!(!log.text().contains("secret"), "{}", log.text());
}

#[tokio::test]
async fn a_line_that_panics_or_is_dropped_is_in_the_log_too() {
    let log = Log::default();
    let _logging = log.everything();
    let state = state();
    let in_flight = state.in_flight().clone();
    let work = tokio::spawn(state.work_on_batches(2, 1));
    let app = app(state);
    create_batch(&app, &["never", "clumsy"]).await;
    soon(async {
        while of_batches(&log).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Lines are in no gauge of clients: batches wait for those.
    assert_eq!(in_flight.count(), 0);
    work.abort();
    let of = |rest: &str| format!(r#"method="POST" route="/v1/chat/completions" {rest}"#);
    let dropped = of(r#"key="alice" batch=true outcome="abandoned""#);
    let failed = of(r#"status=500 key="alice" batch=true outcome="failed""#);
    soon(async {
        while !of_batches(&log).contains(&dropped) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(of_batches(&log).contains(&failed), "{:?}", of_batches(&log));
}
