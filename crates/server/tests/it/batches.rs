//! Lines of batches: each is in the access log like the request of a client.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use loggia_api::{MemoryBlobs, MemoryStore, Policy};
use loggia_server::{App, AppState, ServerOptions, app};
use serde_json::json;

use crate::prompt_backend::{PromptBackend, ask, keys};
use crate::test_server::{Log, soon};

const BOUNDARY: &str = "boundary";

fn state() -> AppState {
    let options = ServerOptions {
        keys: keys(),
        ..ServerOptions::default()
    };
    AppState::new(Arc::new(PromptBackend), Policy::default(), options)
        .with_store(Arc::new(MemoryStore::default()))
        .with_blobs(Arc::new(MemoryBlobs::default()))
}

/// Creates a batch with a chat for each model. Returns the path of the batch.
async fn create_batch(app: &App, models: &[&str]) -> String {
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
