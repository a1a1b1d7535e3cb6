//! Batches: a file of requests in, files of answers out.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use loggia_api::store::blobs::{Leftovers, NewBlob, Pieces};
use loggia_api::store::{Change, Kind, ObjectRef, Owner, StoreError};
use loggia_api::{BatchWork, Blobs, Caller, Door, MemoryBlobs, MemoryStore, Policy, Store};
use loggia_backend::ollama::Ollama;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::Service;

use crate::decisions::first_token;
use crate::support::{Inner, Scripted, plain_model};

/// A door with files and batches, in front of a model that answers with a recording.
pub(crate) struct BatchDoor {
    pub(crate) door: Door,
    pub(crate) inner: Scripted,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) blobs: Arc<MemoryBlobs>,
    /// The requests of clients that are running.
    pub(crate) running: Arc<AtomicUsize>,
}

impl BatchDoor {
    pub(crate) fn new() -> Self {
        Self::before(plain_model())
    }

    pub(crate) fn with_policy(policy: Policy) -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self::with(plain_model(), gate, policy)
    }

    fn before(inner: Scripted) -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self::gated(inner, gate)
    }

    /// A model that answers a chat for each permit of the gate.
    fn gated(inner: Scripted, gate: Arc<Semaphore>) -> Self {
        Self::with(inner, gate, Policy::default())
    }

    fn with(inner: Scripted, gate: Arc<Semaphore>, policy: Policy) -> Self {
        let gated = Gated {
            inner: inner.clone(),
            gate,
        };
        let backend = Arc::new(Ollama::new("ollama", gated));
        let (store, blobs) = (
            Arc::new(MemoryStore::new()),
            Arc::new(MemoryBlobs::default()),
        );
        let door = Door::new(backend, policy)
            .with_store(store.clone())
            .with_blobs(blobs.clone());
        Self {
            door,
            inner,
            store,
            blobs,
            running: Arc::default(),
        }
    }

    /// Works on batches until the returned task is aborted.
    pub(crate) fn work(&self) -> tokio::task::JoinHandle<()> {
        let running = Arc::clone(&self.running);
        let work = BatchWork {
            parallel: 3,
            clients: 1,
            running: Arc::new(move || running.load(Ordering::Relaxed)),
            caller: Arc::new(|name| (name != "gone").then(|| caller(name))),
            answer: self.door.answers_lines(),
        };
        tokio::spawn(self.door.clone().work_on_batches(work))
    }

    pub(crate) async fn send(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        if let Some(name) = key {
            request.extensions_mut().insert(caller(name));
        }
        let answer = self.door.serve(request).await;
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    pub(crate) async fn file(&self, key: Option<&str>, text: &str, purpose: &str) -> String {
        let form = format!(
            "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n\
            --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{text}\r\n--x--\r\n"
        );
        let request =
            Request::post("/v1/files").header("content-type", "multipart/form-data; boundary=x");
        let mut request = request
            .body(Full::new(Bytes::from(form)))
            .expect("a request");
        if let Some(name) = key {
            request.extensions_mut().insert(caller(name));
        }
        let answer = self.door.serve(request).await;
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let file: Value = serde_json::from_slice(&body).expect("JSON");
        file["id"].as_str().expect("an id").to_owned()
    }

    async fn create_as(&self, key: Option<&str>, text: &str, more: Value) -> String {
        let file = self.file(key, text, "batch").await;
        let mut asked = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        for (name, value) in more.as_object().expect("an object") {
            asked[name] = value.clone();
        }
        let (status, batch) = self.send(key, Method::POST, "/v1/batches", asked).await;
        assert_eq!(
            (status, &batch["status"]),
            (200, &json!("validating")),
            "{batch}"
        );
        batch["id"].as_str().expect("an id").to_owned()
    }

    async fn create(&self, text: &str) -> String {
        self.create_as(None, text, json!({})).await
    }

    async fn batch(&self, key: Option<&str>, id: &str) -> Value {
        self.send(key, Method::GET, &format!("/v1/batches/{id}"), Value::Null)
            .await
            .1
    }

    async fn ended(&self, key: Option<&str>, id: &str) -> Value {
        loop {
            let batch = self.batch(key, id).await;
            let status = batch["status"].as_str().expect("a status");
            if matches!(status, "completed" | "failed" | "expired" | "cancelled") {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The lines of a file of a batch.
    async fn lines(&self, key: Option<&str>, file: &Value) -> Vec<Value> {
        let Some(id) = file.as_str() else {
            return Vec::new();
        };
        let path = format!("/v1/files/{id}/content");
        let mut request = Request::get(path)
            .body(Full::<Bytes>::default())
            .expect("a request");
        if let Some(name) = key {
            request.extensions_mut().insert(caller(name));
        }
        let answer = self.door.serve(request).await;
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let lines = std::str::from_utf8(&body).expect("UTF-8").lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

pub(crate) fn caller(name: &str) -> Caller {
    Caller {
        name: name.into(),
        strictness: None,
        models: None,
        may_delete_models: false,
        may_have_priority: false,
    }
}

fn line(custom_id: &str) -> String {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": custom_id}]});
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})
        .to_string()
}

fn file_of(number: usize) -> String {
    (0..number)
        .map(|at| line(&format!("c-{at}")) + "\n")
        .collect()
}

fn custom_ids(lines: &[Value]) -> Vec<String> {
    let id = |line: &Value| line["custom_id"].as_str().expect("an id").to_owned();
    let mut ids: Vec<String> = lines.iter().map(id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id twice");
    ids
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_line_and_counts_them() {
    let door = BatchDoor::new();
    let more = json!({"metadata": {"night": "1"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}});
    let id = door.create_as(None, &file_of(20), more).await;
    assert!(id.starts_with("batch_"));
    let work = door.work();
    let batch = door.ended(None, &id).await;
    work.abort();
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(
        batch["request_counts"],
        json!({"total": 20, "completed": 20, "failed": 0})
    );
    assert_eq!(
        (&batch["model"], &batch["metadata"]),
        (&json!("m"), &json!({"night": "1"}))
    );
    assert_eq!(
        (&batch["error_file_id"], &batch["errors"]),
        (&Value::Null, &Value::Null)
    );
    for at in [
        "in_progress_at",
        "finalizing_at",
        "completed_at",
        "expires_at",
    ] {
        assert!(batch[at].is_u64(), "{at}: {batch}");
    }
    let lines = door.lines(None, &batch["output_file_id"]).await;
    assert_eq!(custom_ids(&lines).len(), 20);
    for line in &lines {
        let response = &line["response"];
        assert_eq!(
            (&line["error"], &response["status_code"]),
            (&Value::Null, &json!(200))
        );
        assert_eq!(response["body"]["object"], "chat.completion");
        assert!(
            response["request_id"]
                .as_str()
                .is_some_and(|id| id.starts_with("req_"))
        );
    }
    let used = lines[0]["response"]["body"]["usage"]["total_tokens"]
        .as_u64()
        .expect("a number");
    assert_eq!(batch["usage"]["total_tokens"], json!(20 * used));
    let output = batch["output_file_id"].as_str().expect("an id");
    let file = door
        .send(
            None,
            Method::GET,
            &format!("/v1/files/{output}"),
            Value::Null,
        )
        .await
        .1;
    assert_eq!(file["purpose"], "batch_output");
    let lasts = file["expires_at"].as_u64().zip(file["created_at"].as_u64());
    assert_eq!(lasts.map(|(until, from)| until - from), Some(3600));
    let sent: HashSet<String> = door.inner.chats().iter().map(ToString::to_string).collect();
    assert_eq!(sent.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_broken_line_is_an_error_and_the_others_go_on() {
    let door = BatchDoor::new();
    let no_model = json!({"custom_id": "no-model", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}});
    let text = [
        &line("a"),
        "{",
        &no_model.to_string(),
        "",
        "{\"custom_id\": \"c\"}",
        &line("b"),
    ]
    .join("\n");
    let id = door.create(&text).await;
    let work = door.work();
    let batch = door.ended(None, &id).await;
    work.abort();
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(
        batch["request_counts"],
        json!({"total": 5, "completed": 2, "failed": 3})
    );
    let answers = door.lines(None, &batch["output_file_id"]).await;
    assert_eq!(custom_ids(&answers), ["a", "b"]);
    let errors = door.lines(None, &batch["error_file_id"]).await;
    let find = |id: Value| {
        errors
            .iter()
            .find(|line| line["custom_id"] == id)
            .expect("a line")
    };
    assert_eq!(find(Value::Null)["error"]["code"], "invalid_json_line");
    assert_eq!(find(json!("c"))["error"]["code"], "invalid_method");
    let refused = find(json!("no-model"));
    assert_eq!(
        (&refused["error"], &refused["response"]["status_code"]),
        (&Value::Null, &json!(400))
    );
    assert_eq!(refused["response"]["body"]["error"]["param"], "model");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_broken_as_a_whole_fails_the_batch() {
    let door = BatchDoor::new();
    let work = door.work();
    let twice = [line("a"), line("b"), line("a")].join("\n");
    for (text, code, number) in [
        ("\n \n", "empty_file", Value::Null),
        ("{", "invalid_json_line", json!(1)),
        (twice.as_str(), "duplicate_custom_id", json!(3)),
    ] {
        let id = door.create(text).await;
        let batch = door.ended(None, &id).await;
        assert_eq!(
            (&batch["status"], &batch["output_file_id"]),
            (&json!("failed"), &Value::Null)
        );
        let error = &batch["errors"]["data"][0];
        assert_eq!(
            (&error["code"], &error["line"]),
            (&json!(code), &number),
            "{batch}"
        );
    }
    assert!(door.inner.chats().is_empty());
    work.abort();
}

#[tokio::test]
async fn a_request_for_a_batch_is_checked() {
    let door = BatchDoor::new();
    let file = door.file(None, &file_of(1), "batch").await;
    let other = door.file(None, &file_of(1), "user_data").await;
    let usual = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    for (field, value, status) in [
        ("endpoint", json!("/v1/files"), 400),
        ("completion_window", json!("1h"), 400),
        ("input_file_id", json!("file-0"), 404),
        ("input_file_id", json!(other), 400),
        ("input_file_id", Value::Null, 400),
        ("metadata", json!({"a": 1}), 400),
        (
            "output_expires_after",
            json!({"anchor": "created_at", "seconds": 1}),
            400,
        ),
    ] {
        let mut asked = usual.clone();
        asked[field] = value;
        let (got, answer) = door.send(None, Method::POST, "/v1/batches", asked).await;
        assert_eq!(got, status, "{answer}");
        let param = answer["error"]["param"].as_str().expect("a param");
        assert!(param.starts_with(field), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_keeps_its_answers_and_names_what_was_not_made() {
    let door = BatchDoor::new();
    let id = door.create(&file_of(5)).await;
    door.running.store(1, Ordering::Relaxed);
    let work = door.work();
    let path = format!("/v1/batches/{id}/cancel");
    // Waits until the batch has started. Its lines run one by one, because a client is being
    // answered.
    while door.batch(None, &id).await["request_counts"]["completed"] == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (status, batch) = door.send(None, Method::POST, &path, Value::Null).await;
    assert_eq!(
        (status, &batch["status"]),
        (200, &json!("cancelling")),
        "{batch}"
    );
    assert!(batch["cancelling_at"].is_u64());
    let batch = door.ended(None, &id).await;
    assert_eq!(batch["status"], "cancelled");
    let answers = door.lines(None, &batch["output_file_id"]).await;
    let errors = door.lines(None, &batch["error_file_id"]).await;
    assert!(
        errors
            .iter()
            .all(|line| line["error"]["code"] == "batch_cancelled")
    );
    assert_eq!(answers.len() + errors.len(), 5);
    assert!(!answers.is_empty() && !errors.is_empty());
    let (status, _) = door.send(None, Method::POST, &path, Value::Null).await;
    assert_eq!(status, 400);
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_while_clients_are_answered() {
    let door = BatchDoor::new();
    let id = door.create(&file_of(3)).await;
    door.running.store(1, Ordering::Relaxed);
    let work = door.work();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(door.inner.chats().is_empty());
    door.running.store(0, Ordering::Relaxed);
    assert_eq!(door.ended(None, &id).await["status"], "completed");
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn lines_that_run_are_stopped_when_a_client_comes_and_made_again() {
    let gate = Arc::new(Semaphore::new(0));
    let door = BatchDoor::gated(plain_model(), Arc::clone(&gate));
    let id = door.create(&file_of(2)).await;
    let work = door.work();
    while door.inner.chats().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    door.running.store(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.add_permits(10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.inner.chats().len(), 2);
    assert_eq!(
        door.batch(None, &id).await["request_counts"]["completed"],
        0
    );
    door.running.store(0, Ordering::Relaxed);
    let batch = door.ended(None, &id).await;
    work.abort();
    assert_eq!(
        batch["request_counts"],
        json!({"total": 2, "completed": 2, "failed": 0})
    );
    assert_eq!(
        custom_ids(&door.lines(None, &batch["output_file_id"]).await).len(),
        2
    );
    assert_eq!(door.inner.chats().len(), 4);
}

/// The worker is stopped at any moment, and another one continues.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_interrupted_goes_on_at_the_last_line() {
    let door = BatchDoor::new();
    let id = door.create(&file_of(40)).await;
    door.running.store(1, Ordering::Relaxed);
    let mut times = 0;
    loop {
        let work = door.work();
        // One line is made every 30 s; holds last as long.
        tokio::time::sleep(Duration::from_secs(45 + times % 7)).await;
        work.abort();
        let _ = work.await;
        times += 1;
        if times == 10 {
            door.running.store(0, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_secs(31)).await;
        if door.batch(None, &id).await["status"] == "completed" {
            break;
        }
        assert!(times < 50);
    }
    let batch = door.batch(None, &id).await;
    assert_eq!(
        batch["request_counts"],
        json!({"total": 40, "completed": 40, "failed": 0})
    );
    assert_eq!(
        custom_ids(&door.lines(None, &batch["output_file_id"]).await).len(),
        40
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_runs_with_the_key_that_made_it_and_only_that_key_sees_it() {
    let door = BatchDoor::new();
    let id = door.create_as(Some("a"), &file_of(2), json!({})).await;
    let gone = door.create_as(Some("gone"), &file_of(2), json!({})).await;
    let work = door.work();
    let batch = door.ended(Some("a"), &id).await;
    assert_eq!(batch["request_counts"]["completed"], 2);
    let (status, _) = door
        .send(
            Some("b"),
            Method::GET,
            &format!("/v1/batches/{id}"),
            Value::Null,
        )
        .await;
    assert_eq!(status, 404);
    let (_, listed) = door
        .send(Some("b"), Method::GET, "/v1/batches", Value::Null)
        .await;
    assert_eq!(listed["data"], json!([]));
    let (_, listed) = door
        .send(Some("a"), Method::GET, "/v1/batches", Value::Null)
        .await;
    assert_eq!(listed["data"], json!([batch]));
    // A key that does not exist any more has no rights.
    let batch = door.ended(Some("gone"), &gone).await;
    let errors = door.lines(Some("gone"), &batch["error_file_id"]).await;
    assert_eq!(errors.len(), 2);
    assert!(
        errors
            .iter()
            .all(|line| line["error"]["code"] == "invalid_api_key")
    );
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_busy_is_waited_for() {
    let busy = plain_model().first("/api/chat", 503, ["{\"error\":\"server busy\"}"]);
    let door = BatchDoor::before(busy);
    let id = door.create(&file_of(2)).await;
    let work = door.work();
    let batch = door.ended(None, &id).await;
    work.abort();
    assert_eq!(
        batch["request_counts"],
        json!({"total": 2, "completed": 2, "failed": 0})
    );
    assert_eq!(door.inner.chats().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_engine_is_busy_does_not_keep_others_waiting() {
    let busy = plain_model().on("/api/chat", 503, ["{\"error\":\"server busy\"}"]);
    let door = BatchDoor::before(busy);
    let waiting = door.create(&file_of(5)).await;
    let work = door.work();
    while door.inner.chats().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The only line of this batch needs no engine.
    let other = door.create(&line("a").replace("messages", "none")).await;
    // This batch has waited for longer. Its due time is set by hand, because the store's clock is
    // not paused.
    let due = Change::Schedule {
        kind: Kind::Batch,
        id: other.clone(),
        due: Some(1),
        content: 0,
    };
    assert_eq!(door.store.write(&Owner::NOBODY, vec![due]).await, Ok(()));
    let ended = tokio::time::timeout(Duration::from_mins(2), door.ended(None, &other)).await;
    assert_eq!(ended.expect("a turn")["status"], "completed");
    // No line was lost when the turn ended.
    let chats = door.inner.chats().len();
    while door.inner.chats().len() < chats + 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let batch = door.batch(None, &waiting).await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]),
        (
            &json!("in_progress"),
            &json!({"total": 5, "completed": 0, "failed": 0})
        )
    );
    work.abort();
}

/// The end takes two writes: the errors of the lines that were not made, and the files.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_cancelled_or_expired_stays_so_if_its_end_is_interrupted() {
    for status in ["cancelled", "expired"] {
        let door = BatchDoor::new();
        let text = file_of(3);
        let id = door.create(&text).await;
        door.running.store(1, Ordering::Relaxed);
        let work = door.work();
        while door.batch(None, &id).await["status"] != "in_progress" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        work.abort();
        let _ = work.await;
        let at = ObjectRef {
            owner: &Owner::NOBODY,
            kind: Kind::Batch,
            id: &id,
        };
        let object = door.store.object(at).await.expect("the batch");
        let mut stored: Value = serde_json::from_str(&object.body).expect("JSON");
        if status == "cancelled" {
            let path = format!("/v1/batches/{id}/cancel");
            door.send(None, Method::POST, &path, Value::Null).await;
        } else {
            stored["expires_at"] = json!(1);
        }
        // The state after the first write.
        stored["finalizing_at"] = json!(1);
        stored["request_counts"]["failed"] = json!(3);
        stored["progress"] = json!({"next": 3, "offset": text.len(), "done": []});
        let replace = Change::Replace {
            kind: Kind::Batch,
            id: id.clone(),
            body: stored.to_string(),
            items: Vec::new(),
            needs: None,
        };
        let written = door.store.write(&Owner::NOBODY, vec![replace]).await;
        assert_eq!(written, Ok(()));
        door.running.store(0, Ordering::Relaxed);
        let work = door.work();
        let batch = door.ended(None, &id).await;
        work.abort();
        assert_eq!(
            (&batch["status"], &batch["request_counts"]["failed"]),
            (&json!(status), &json!(3))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_input_file_is_deleted_ends_soon() {
    let door = BatchDoor::new();
    let id = door.create(&file_of(5)).await;
    door.running.store(1, Ordering::Relaxed);
    let work = door.work();
    while door.batch(None, &id).await["status"] != "in_progress" {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let input = door.batch(None, &id).await["input_file_id"].clone();
    let path = format!("/v1/files/{}", input.as_str().expect("an id"));
    let (status, _) = door.send(None, Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, 200);
    let ended = tokio::time::timeout(Duration::from_secs(10), door.ended(None, &id)).await;
    work.abort();
    assert_eq!(ended.expect("within 10 s")["status"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_error_file_cannot_be_written_leaves_no_second_output_file() {
    let mut door = BatchDoor::new();
    // The contents are the input, the answers, and the errors.
    let blobs = FullOnce {
        inner: door.blobs.clone(),
        until: AtomicUsize::new(2),
    };
    door.door = door.door.with_blobs(Arc::new(blobs));
    let id = door.create(&(file_of(1) + "broken")).await;
    let work = door.work();
    let batch = door.ended(None, &id).await;
    work.abort();
    assert_eq!(batch["status"], "completed");
    assert!(batch["output_file_id"].is_string() && batch["error_file_id"].is_string());
    assert_eq!(door.blobs.places().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_ended_batch_is_deleted_when_it_is_old_and_leaves_its_files() {
    let door = BatchDoor::new();
    let id = door.create(&file_of(1)).await;
    let work = door.work();
    door.ended(None, &id).await;
    let due = Change::Schedule {
        kind: Kind::Batch,
        id: id.clone(),
        due: Some(1),
        content: 0,
    };
    assert_eq!(door.store.write(&Owner::NOBODY, vec![due]).await, Ok(()));
    while door.batch(None, &id).await["error"].is_null() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    work.abort();
    assert_eq!(door.blobs.places().len(), 2);
}

/// Answers a chat when the gate has a permit.
#[derive(Clone)]
struct Gated {
    inner: Scripted,
    gate: Arc<Semaphore>,
}

impl Service<Request<Full<Bytes>>> for Gated {
    type Response = Response<Inner>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Inner>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let is_chat = request.uri().path() == "/api/chat";
        let (answer, gate) = (self.inner.call(request), Arc::clone(&self.gate));
        Box::pin(async move {
            if is_chat {
                gate.acquire().await.expect("open").forget();
            }
            answer.await
        })
    }
}

/// Storage that has no room for one content, after some others.
struct FullOnce {
    inner: Arc<MemoryBlobs>,
    until: AtomicUsize,
}

impl Blobs for FullOnce {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<NewBlob, StoreError>> {
        if self.until.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Box::pin(async { Err(StoreError::Full) });
        }
        self.inner.create(name)
    }

    fn read<'a>(
        &'a self,
        place: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Pieces, StoreError>> {
        self.inner.read(place, range)
    }

    fn delete<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(place)
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Leftovers, StoreError>> {
        self.inner.leftovers()
    }
}

#[tokio::test]
async fn lines_may_be_moderations() {
    let door = BatchDoor::before(first_token(&[("Yes", 0.75), ("No", 0.25)]));
    let line = json!({
        "custom_id": "a", "method": "POST", "url": "/v1/moderations",
        "body": {"model": "smollm2:135m", "input": "Hello"}
    });
    let more = json!({"endpoint": "/v1/moderations"});
    let id = door.create_as(None, &line.to_string(), more).await;
    let work = door.work();
    let batch = door.ended(None, &id).await;
    work.abort();
    let lines = door.lines(None, &batch["output_file_id"]).await;
    let result = &lines[0]["response"]["body"]["results"][0];
    assert_eq!(result["flagged"], true, "{lines:?}");
}
