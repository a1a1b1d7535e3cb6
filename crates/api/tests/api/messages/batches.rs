//! `/v1/messages/batches`: batches of messages, which run as every other batch.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use loggia_api::store::{Change, Kind, ObjectRef, Owner};
use loggia_api::{Policy, Store};
use serde_json::{Value, json};

use crate::batches::{BatchDoor, caller};
use crate::content_encoding::{gzip, zlib, zstd};

const PATH: &str = "/v1/messages/batches";

fn request(custom_id: &str) -> Value {
    let messages = json!([{"role": "user", "content": custom_id}]);
    json!({"custom_id": custom_id, "params": {"model": "m", "max_tokens": 9, "messages": messages}})
}

fn requests(number: usize) -> Value {
    let requests = (0..number).map(|at| request(&format!("c-{at}")));
    json!({"requests": requests.collect::<Vec<_>>()})
}

fn id_of(batch: &Value) -> String {
    batch["id"].as_str().expect("an id").to_owned()
}

impl BatchDoor {
    async fn create_messages(&self, key: Option<&str>, body: Value) -> String {
        let (status, batch) = self.send(key, Method::POST, PATH, body).await;
        assert_eq!(status, 200, "{batch}");
        id_of(&batch)
    }

    async fn get(&self, key: Option<&str>, path: &str) -> (u16, Value) {
        self.send(key, Method::GET, path, Value::Null).await
    }

    async fn ended_messages(&self, key: Option<&str>, id: &str) -> Value {
        loop {
            let (_, batch) = self.get(key, &format!("{PATH}/{id}")).await;
            if batch["processing_status"] == "ended" {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The results of a batch, in the order of their ids.
    async fn results(&self, key: Option<&str>, batch: &Value) -> Vec<Value> {
        let path = batch["results_url"].as_str().expect("a URL");
        let mut request = Request::get(path)
            .body(Full::<Bytes>::default())
            .expect("a request");
        if let Some(name) = key {
            request.extensions_mut().insert(caller(name));
        }
        let answer = self.door.serve(request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/x-jsonl");
        let body = answer.into_body().collect().await.expect("a body");
        let body = body.to_bytes();
        let lines = std::str::from_utf8(&body).expect("UTF-8").lines();
        let mut lines: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        lines.sort_by_key(|line| line["custom_id"].as_str().map(str::to_owned));
        lines
    }

    /// Creates a batch, and lets the worker make some of its requests.
    async fn begun(&self, number: usize) -> String {
        let id = self.create_messages(None, requests(number)).await;
        // One request is made every 30 s while a client is being answered.
        self.running.store(1, Ordering::Relaxed);
        let work = self.work();
        while self.inner.chats().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        work.abort();
        let _ = work.await;
        id
    }
}

fn types(results: &[Value]) -> Vec<&str> {
    results
        .iter()
        .map(|line| line["result"]["type"].as_str().expect("a type"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_messages_is_made_and_its_results_are_read_until_it_is_deleted() {
    let door = BatchDoor::new();
    let mut asked = requests(3);
    asked["requests"][1]["params"]["max_tokens"] = json!(-1);
    asked["requests"][2]["params"]["stream"] = json!(true);
    let (status, batch) = door.send(None, Method::POST, PATH, asked).await;
    assert_eq!(status, 200);
    let id = id_of(&batch);
    assert!(id.starts_with("msgbatch_"));
    let fixed = |batch: &Value| {
        let mut fixed = batch.clone();
        for (name, value) in fixed.as_object_mut().expect("an object") {
            if name == "id" || name.ends_with("_at") && value.is_string() {
                *value = json!("…");
            }
        }
        fixed
    };
    let mut expected = json!({
        "id": "…", "type": "message_batch", "processing_status": "in_progress",
        "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "…", "expires_at": "…", "ended_at": null, "archived_at": null,
        "cancel_initiated_at": null, "results_url": null,
    });
    assert_eq!(fixed(&batch), expected);
    let path = format!("{PATH}/{id}");
    for (method, path) in [
        (Method::DELETE, &path),
        (Method::GET, &(path.clone() + "/results")),
    ] {
        let (status, error) = door.send(None, method, path, Value::Null).await;
        assert_eq!(status, 400);
        assert_eq!(error["error"]["type"], "invalid_request_error", "{error}");
    }
    let work = door.work();
    let batch = door.ended_messages(None, &id).await;
    expected["processing_status"] = json!("ended");
    expected["ended_at"] = json!("…");
    expected["request_counts"] =
        json!({"processing": 0, "succeeded": 1, "errored": 2, "canceled": 0, "expired": 0});
    expected["results_url"] = json!(format!("{path}/results"));
    assert_eq!(fixed(&batch), expected);
    let results = door.results(None, &batch).await;
    assert_eq!(types(&results), ["succeeded", "errored", "errored"]);
    let message = &results[0]["result"]["message"];
    assert_eq!(
        (&message["type"], &message["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert!(message["usage"]["output_tokens"].is_u64());
    for (line, word) in results[1..].iter().zip(["max_tokens", "stream"]) {
        let error = &line["result"]["error"];
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains(word), "{message}");
    }
    // The client has no files, and the requests are not needed any more.
    assert_eq!(door.get(None, "/v1/files").await.1["data"], json!([]));
    assert_eq!(door.get(None, "/v1/batches").await.1["data"], json!([]));
    assert_eq!(door.blobs.places().len(), 1);
    let (status, error) = door
        .send(None, Method::POST, &(path.clone() + "/cancel"), Value::Null)
        .await;
    assert_eq!((status, &error["type"]), (400, &json!("error")));
    let (status, deleted) = door.send(None, Method::DELETE, &path, Value::Null).await;
    assert_eq!(
        (status, deleted),
        (200, json!({"id": id, "type": "message_batch_deleted"}))
    );
    let (status, error) = door.get(None, &path).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (404, &json!("not_found_error"))
    );
    assert_eq!(door.blobs.places(), [""; 0]);
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_canceled_batch_of_messages_keeps_what_was_made() {
    let door = BatchDoor::new();
    let id = door.begun(4).await;
    let path = format!("{PATH}/{id}/cancel");
    for _ in 0..2 {
        let (status, batch) = door.send(None, Method::POST, &path, Value::Null).await;
        assert_eq!(
            (status, &batch["processing_status"]),
            (200, &json!("canceling"))
        );
        assert!(batch["cancel_initiated_at"].is_string());
        assert_eq!(batch["request_counts"]["processing"], 4);
    }
    let work = door.work();
    let batch = door.ended_messages(None, &id).await;
    work.abort();
    assert!(batch["cancel_initiated_at"].is_string());
    assert_eq!(
        batch["request_counts"],
        json!({"processing": 0, "succeeded": 1, "errored": 0, "canceled": 3, "expired": 0})
    );
    let results = door.results(None, &batch).await;
    assert_eq!(
        types(&results),
        ["succeeded", "canceled", "canceled", "canceled"]
    );
    assert_eq!(results[1]["result"], json!({"type": "canceled"}));
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_not_made_in_time_have_expired() {
    let door = BatchDoor::new();
    let id = door.begun(3).await;
    let at = ObjectRef {
        owner: &Owner::NOBODY,
        kind: Kind::MessageBatch,
        id: &id,
    };
    let object = door.store.object(at).await.expect("the batch");
    let mut stored: Value = serde_json::from_str(&object.body).expect("JSON");
    stored["expires_at"] = json!(1);
    let replace = Change::Replace {
        kind: Kind::MessageBatch,
        id: id.clone(),
        body: stored.to_string(),
        items: Vec::new(),
        needs: None,
    };
    let written = door.store.write(&Owner::NOBODY, vec![replace]).await;
    assert_eq!(written, Ok(()));
    let work = door.work();
    let batch = door.ended_messages(None, &id).await;
    work.abort();
    assert_eq!(
        batch["request_counts"],
        json!({"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 2})
    );
    let results = door.results(None, &batch).await;
    assert_eq!(types(&results), ["succeeded", "expired", "expired"]);
}

/// The worker is stopped at any moment, and another one continues.
#[tokio::test(start_paused = true)]
async fn a_batch_of_messages_that_is_interrupted_has_each_result_once() {
    let door = BatchDoor::new();
    let id = door.begun(5).await;
    let made = door.inner.chats().len();
    assert!(made < 5, "{made}");
    door.running.store(0, Ordering::Relaxed);
    let work = door.work();
    let batch = door.ended_messages(None, &id).await;
    work.abort();
    let results = door.results(None, &batch).await;
    let ids: Vec<&Value> = results.iter().map(|line| &line["custom_id"]).collect();
    assert_eq!(ids, ["c-0", "c-1", "c-2", "c-3", "c-4"]);
    assert_eq!(types(&results), ["succeeded"; 5]);
}

#[tokio::test(start_paused = true)]
async fn batches_of_both_apis_take_turns() {
    let door = BatchDoor::new();
    // The client is being answered forever, so each batch makes one line in 30 s.
    door.running.store(1, Ordering::Relaxed);
    let first = door.create_messages(None, requests(10)).await;
    let file = door
        .file(
            None,
            r#"{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}}"#,
            "batch",
        )
        .await;
    let asked = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let (_, batch) = door.send(None, Method::POST, "/v1/batches", asked).await;
    let path = format!("/v1/batches/{}", id_of(&batch));
    let work = door.work();
    while door.get(None, &path).await.1["status"] != "completed" {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    work.abort();
    let (_, batch) = door.get(None, &format!("{PATH}/{first}")).await;
    assert_eq!(batch["processing_status"], "in_progress");
}

#[tokio::test(start_paused = true)]
async fn a_key_sees_only_its_own_batches_of_messages() {
    let door = BatchDoor::new();
    let id = door.create_messages(Some("ann"), requests(1)).await;
    let work = door.work();
    let batch = door.ended_messages(Some("ann"), &id).await;
    work.abort();
    assert_eq!(door.results(Some("ann"), &batch).await.len(), 1);
    let (_, list) = door.get(Some("ann"), PATH).await;
    assert_eq!(list["data"], json!([batch]));
    let (_, list) = door.get(Some("bob"), PATH).await;
    assert_eq!(
        list,
        json!({"data": [], "has_more": false, "first_id": null, "last_id": null})
    );
    let path = format!("{PATH}/{id}");
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, path.clone() + "/results"),
        (Method::POST, path + "/cancel"),
    ] {
        let (status, error) = door.send(Some("bob"), method, &path, Value::Null).await;
        assert_eq!(
            (status, &error["error"]["type"]),
            (404, &json!("not_found_error")),
            "{path}"
        );
    }
    // The key was deleted while its batch waited.
    let id = door.create_messages(Some("gone"), requests(1)).await;
    let work = door.work();
    let batch = door.ended_messages(Some("gone"), &id).await;
    work.abort();
    let results = door.results(Some("gone"), &batch).await;
    let error = &results[0]["result"]["error"]["error"];
    assert_eq!(error["type"], "authentication_error");
}

#[tokio::test]
async fn batches_of_messages_are_listed_forwards_and_backwards() {
    let door = BatchDoor::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, door.create_messages(None, requests(1)).await);
    }
    for (query, range, has_more) in [
        (String::new(), 0..5, false),
        ("?limit=2".to_owned(), 0..2, true),
        (format!("?limit=2&after_id={}", ids[1]), 2..4, true),
        (format!("?limit=2&after_id={}", ids[3]), 4..5, false),
        (format!("?after_id={}", ids[4]), 0..0, false),
        (format!("?limit=2&before_id={}", ids[3]), 1..3, true),
        (format!("?limit=2&before_id={}", ids[2]), 0..2, false),
        (format!("?before_id={}", ids[0]), 0..0, false),
        ("?after_id=gone".to_owned(), 0..0, false),
    ] {
        let (status, page) = door.get(None, &(PATH.to_owned() + &query)).await;
        assert_eq!(status, 200, "{query}: {page}");
        let found: Vec<String> = page["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(id_of)
            .collect();
        assert_eq!(found, ids[range], "{query}");
        assert_eq!(page["has_more"], has_more, "{query}");
        let end = |end: Option<&String>| end.map_or(Value::Null, |id| json!(id));
        assert_eq!(page["first_id"], end(found.first()));
        assert_eq!(page["last_id"], end(found.last()));
    }
    for query in ["?limit=0", "?limit=1001", "?limit=many"] {
        let (status, error) = door.get(None, &(PATH.to_owned() + query)).await;
        assert_eq!((status, &error["type"]), (400, &json!("error")), "{query}");
    }
}

#[tokio::test]
async fn a_request_for_a_batch_of_messages_is_checked() {
    let door = BatchDoor::new();
    let with = |name: &str, value: Value| {
        let mut asked = requests(2);
        asked["requests"][1][name] = value;
        asked
    };
    for (asked, field) in [
        (json!({}), "requests"),
        (json!({"requests": []}), "requests"),
        (json!({"requests": 1}), "requests"),
        (with("custom_id", json!("c-0")), "requests[1].custom_id"),
        (with("custom_id", json!("")), "requests[1].custom_id"),
        (with("custom_id", json!("a b")), "requests[1].custom_id"),
        (
            with("custom_id", json!("a".repeat(65))),
            "requests[1].custom_id",
        ),
        (with("custom_id", json!(1)), "requests[1].custom_id"),
        (with("custom_id", Value::Null), "requests[1].custom_id"),
        (with("params", json!([])), "requests[1].params"),
        (with("params", Value::Null), "requests[1].params"),
    ] {
        let (status, error) = door.send(None, Method::POST, PATH, asked.clone()).await;
        assert_eq!(
            (status, &error["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{asked}"
        );
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains(field), "{message}");
    }
    // Nothing was written.
    assert_eq!(door.blobs.places(), [""; 0]);
}

/// Sends a body in pieces of this size.
async fn sent_in_pieces(
    door: &BatchDoor,
    body: &str,
    size: usize,
    length: Option<u64>,
) -> (u16, Value) {
    let length = length.map(|length| ("content-length", length.to_string()));
    sent(door, body.as_bytes(), size, length).await
}

/// Sends a body in pieces of this size, with a header.
async fn sent(
    door: &BatchDoor,
    body: &[u8],
    size: usize,
    header: Option<(&str, String)>,
) -> (u16, Value) {
    let pieces: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = pieces
        .into_iter()
        .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let mut request = Request::post(PATH);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let body = StreamBody::new(stream::iter(frames));
    let answer = door
        .door
        .serve(request.body(body).expect("a request"))
        .await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body");
    (
        status,
        serde_json::from_slice(&body.to_bytes()).expect("JSON"),
    )
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_batch_of_messages_is_larger_than_that_of_a_request() {
    let policy = Policy {
        body_limit: 1000,
        ..Policy::default()
    };
    let door = BatchDoor::with_policy(policy);
    let body = requests(100).to_string();
    assert!(body.len() > 5000, "{}", body.len());
    for size in [1, 999, 1 << 20] {
        let (status, batch) = sent_in_pieces(&door, &body, size, None).await;
        assert_eq!(status, 200, "{batch}");
        assert_eq!(batch["request_counts"]["processing"], 100);
        let work = door.work();
        let ended = door.ended_messages(None, &id_of(&batch)).await;
        work.abort();
        assert_eq!(ended["request_counts"]["succeeded"], 100);
    }
    let kept = door.blobs.places();

    let mut long = requests(2);
    long["requests"][1]["params"]["system"] = json!("x".repeat(1000));
    let (status, error) = sent_in_pieces(&door, &long.to_string(), 100, None).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (413, &json!("request_too_large"))
    );
    // The head of a request shows that its body is too large, before it is read.
    let (status, error) = sent_in_pieces(&door, &body, 100, Some(257 << 20)).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (413, &json!("request_too_large"))
    );
    let cut = &body[..body.len() - 1];
    let (status, error) = sent_in_pieces(&door, cut, 100, None).await;
    assert_eq!(
        (status, &error["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    assert_eq!(
        door.blobs.places(),
        kept,
        "nothing is left of what was refused"
    );
}

#[tokio::test]
async fn a_compressed_body_of_a_batch_is_unpacked_in_pieces() {
    let mut policy = Policy {
        body_limit: 1000,
        ..Policy::default()
    };
    policy.files.key_bytes = 4 << 20;
    let door = BatchDoor::with_policy(policy);
    let packed = |coding: &str, body: &[u8]| match coding {
        "gzip" => gzip(body),
        "deflate" => zlib(body),
        "zstd" => zstd(body),
        _ => zstd(&gzip(body)),
    };
    let body = requests(3000).to_string();
    // 64 MiB of spaces, which become a few kilobytes.
    let bomb = [&b"{\"requests\": ["[..], &vec![b' '; 64 << 20]].concat();
    let batches = |answer: &Value| answer["data"].as_array().map(Vec::len);
    for (number, coding) in (1..).zip(["gzip", "deflate", "zstd", "gzip, zstd"]) {
        let header = || Some(("content-encoding", coding.to_owned()));
        let small = packed(coding, body.as_bytes());
        assert!(small.len() * 3 < body.len());
        let (status, batch) = sent(&door, &small, 777, header()).await;
        assert_eq!(status, 200, "{coding}: {batch}");
        assert_eq!(batch["request_counts"]["processing"], 3000);
        let kept = door.blobs.places();

        let bomb = packed(coding, &bomb);
        assert!(bomb.len() < 1 << 20);
        let cut = &small[..small.len() / 2];
        for (body, status, error) in [
            (&bomb[..], 413, "request_too_large"),
            (cut, 400, "invalid_request_error"),
            (b"{\"requests\": []}", 400, "invalid_request_error"),
            (b"", 400, "invalid_request_error"),
        ] {
            let (answered, answer) = sent(&door, body, 10_000, header()).await;
            assert_eq!(
                (answered, answer["error"]["type"].as_str()),
                (status, Some(error)),
                "{coding}: {answer}"
            );
        }
        assert_eq!(door.blobs.places(), kept, "{coding}: nothing is left");
        let (_, list) = door.get(None, PATH).await;
        assert_eq!(batches(&list), Some(number));
    }
    let header = Some(("content-encoding", "lzma".to_owned()));
    let (status, _) = sent(&door, body.as_bytes(), 777, header).await;
    assert_eq!(status, 415);
}

#[tokio::test(start_paused = true)]
async fn an_old_batch_of_messages_is_deleted_with_its_results() {
    let door = BatchDoor::new();
    let id = door.create_messages(None, requests(1)).await;
    let work = door.work();
    door.ended_messages(None, &id).await;
    let due = Change::Schedule {
        kind: Kind::MessageBatch,
        id: id.clone(),
        due: Some(1),
        content: 0,
    };
    assert_eq!(door.store.write(&Owner::NOBODY, vec![due]).await, Ok(()));
    while door.get(None, &format!("{PATH}/{id}")).await.0 == 200 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    while !door.blobs.places().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    work.abort();
}
