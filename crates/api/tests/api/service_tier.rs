//! `service_tier` and the place of a request, before a backend with a queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use loggia_api::{BatchWork, Caller, Door, MemoryBlobs, MemoryStore, Policy};
use loggia_backend::queue::Queue;
use loggia_backend::{
    Abilities, Backend, BackendError, Call, Chunk, Event, Priority, Reply, ServedBy,
};
use loggia_wire::openai::{ChunkChoice, Delta, FinishReason, Model};
use serde_json::{Value, json};

use crate::batches::caller;

/// An engine that takes a second for each answer.
#[derive(Default)]
struct Engine(Mutex<Vec<Priority>>);

impl Backend for Engine {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            self.0.lock().expect("no panic").push(call.head.priority);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let said = ChunkChoice::delta(0, Delta::content("Hello"));
            let end = ChunkChoice::finish(0, FinishReason::Stop);
            let events = [said, end].map(|choice| Ok(Event::Chunk(Chunk::of(choice))));
            Ok(Reply {
                served_by: ServedBy::new("engine", "m"),
                events: Box::pin(futures_util::stream::iter(events)),
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(vec![Model::new("m", 0, "me")]) })
    }
}

/// A door before an engine that answers one request at once, while ten wait.
fn door(engine: &Arc<Engine>) -> Door {
    let policy = Policy {
        heartbeat_after: Some(Duration::from_millis(100)),
        heartbeat_every: Duration::from_millis(100),
        ..Policy::default()
    };
    let queue = Queue::new(Arc::clone(engine) as Arc<dyn Backend>, 1, 10);
    Door::new(Arc::new(queue), policy).with_store(Arc::new(MemoryStore::new()))
}

/// The status, the fields that had no effect, and the body.
async fn ask(
    door: &Door,
    path: &str,
    caller: Option<Caller>,
    more: Value,
) -> (u16, String, String) {
    let mut body = match path {
        "/v1/responses" => json!({"model": "m", "input": "x"}),
        _ => {
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]})
        }
    };
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let request = Request::post(path).header("anthropic-version", "2023-06-01");
    let body = Full::new(Bytes::from(body.to_string()));
    let mut request = request.body(body).expect("a request");
    if path != "/v1/messages" {
        request.headers_mut().remove("anthropic-version");
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let answer = door.serve(request).await;
    let ignored = answer.headers().get("x-loggia-ignored");
    let ignored = ignored.map_or("", |value| value.to_str().expect("text"));
    let (status, ignored) = (answer.status().as_u16(), ignored.to_owned());
    let body = answer.into_body().collect().await.expect("a body");
    let text = String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8");
    (status, ignored, text)
}

fn alice(may_have_priority: bool) -> Caller {
    Caller {
        may_have_priority,
        ..caller("alice")
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_which_tier_it_had() {
    let engine = Arc::default();
    let door = door(&engine);
    for (tier, caller, told, left_out) in [
        ("flex", None, "flex", ""),
        ("priority", Some(alice(true)), "priority", ""),
        ("fast", Some(alice(true)), "priority", ""),
        ("priority", Some(alice(false)), "default", "service_tier"),
        ("priority", None, "default", "service_tier"),
        ("auto", None, "default", ""),
    ] {
        for path in ["/v1/chat/completions", "/v1/responses"] {
            let asked = |stream: bool| json!({"service_tier": tier, "stream": stream});
            let (status, ignored, body) = ask(&door, path, caller.clone(), asked(false)).await;
            assert_eq!(
                (status, &*ignored),
                (200, left_out),
                "{tier} {path}: {body}"
            );
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(answer["service_tier"], told, "{tier} {path}");
            let (_, _, body) = ask(&door, path, caller.clone(), asked(true)).await;
            let told = format!("\"service_tier\":\"{told}\"");
            assert!(body.contains(&told), "{tier} {path}: {body}");
        }
    }
    let (_, _, body) = ask(&door, "/v1/chat/completions", None, json!({})).await;
    assert!(!body.contains("service_tier"), "{body}");
    let (status, _, body) = {
        let strict = Caller {
            strictness: Some(loggia_api::Strictness::Strict),
            ..alice(false)
        };
        let asked = json!({"service_tier": "priority"});
        ask(&door, "/v1/chat/completions", Some(strict), asked).await
    };
    assert!(status == 400 && body.contains("service_tier"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_its_turn_tells_its_place_in_comments() {
    let engine = Arc::default();
    let door = door(&engine);
    let streamed = json!({"stream": true});
    let paths = ["/v1/chat/completions", "/v1/responses", "/v1/messages"];
    let asked = paths.map(|path| ask(&door, path, None, streamed.clone()));
    let [runs, second, third] = join_all(asked).await.try_into().expect("three answers");
    assert!(!runs.2.contains(": queued"), "{}", runs.2);
    assert!(runs.2.contains(": still working\n\n"), "{}", runs.2);
    assert!(second.2.starts_with(": queued 1\n\n"), "{}", second.2);
    assert!(!second.2.contains("queued 2"), "{}", second.2);
    let (first, later) = third.2.split_once(": queued 1\n\n").expect("a place");
    assert!(first.starts_with(": queued 2\n\nevent: ping\n"), "{first}");
    assert!(!later.contains("queued 2"), "{later}");
    assert!(third.2.contains("message_stop"), "{}", third.2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_when_to_try_again_in_each_dialect() {
    let door = door(&Arc::default());
    for (path, status, kind) in [
        ("/v1/chat/completions", 503, "engine_busy"),
        ("/v1/responses", 503, "engine_busy"),
        ("/v1/messages", 529, "overloaded_error"),
    ] {
        let asked = (0..12).map(|_| ask(&door, path, None, json!({})));
        let answers = join_all(asked).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer.0 != 200).collect();
        assert_eq!(refused.len(), 1, "one runs, ten wait");
        assert_eq!(refused[0].0, status);
        assert!(refused[0].2.contains(kind), "{}", refused[0].2);
    }
}

#[tokio::test(start_paused = true)]
async fn background_responses_and_batches_are_below_everything_else() {
    let engine: Arc<Engine> = Arc::default();
    let store = Arc::new(MemoryStore::new());
    let blobs = Arc::new(MemoryBlobs::default());
    let door = Door::new(Arc::clone(&engine) as Arc<dyn Backend>, Policy::default());
    let door = door.with_store(store).with_blobs(blobs);
    let (status, _, body) = ask(&door, "/v1/responses", None, json!({"background": true})).await;
    assert_eq!(status, 200, "{body}");
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "m", "service_tier": "priority", "messages": [{"role": "user", "content": "x"}]}});
    let form = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{line}\r\n--x--\r\n"
    );
    let send = async |path: &str, kind: &str, body: String| -> Value {
        let request = Request::post(path).header("content-type", kind);
        let mut request = request
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        request.extensions_mut().insert(alice(true));
        let body = door.serve(request).await.into_body().collect().await;
        serde_json::from_slice(&body.expect("a body").to_bytes()).expect("JSON")
    };
    let file = send("/v1/files", "multipart/form-data; boundary=x", form).await;
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let batch = send("/v1/batches", "application/json", batch.to_string()).await;
    assert_eq!(batch["status"], "validating", "{batch}");
    let work = tokio::spawn(door.clone().work_on_batches(BatchWork {
        parallel: 1,
        clients: 1,
        running: Arc::new(|| 0),
        caller: Arc::new(|_| Some(alice(true))),
        answer: door.answers_lines(),
    }));
    let seen = || engine.0.lock().expect("no panic").clone();
    while seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    work.abort();
    assert_eq!(seen(), [Priority::Background; 2]);
}
