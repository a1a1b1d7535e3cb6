//! Responses that are made in the background, by one server or by two with the same store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::Store;
use loggia_api::store::{Change, Kind, Owner, StoreError};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::faulty_store::FaultyStore;
use super::memory::{Stand, id, kept, pairs, refused};
use super::stand_in::{StandIn, hi};
use super::state_machine::checked;

#[tokio::test]
async fn a_background_response_goes_on_without_its_client() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let queued = stand.respond(json!({"background": true})).await;
    assert_eq!(
        (&queued["status"], &queued["background"], &queued["output"]),
        (&json!("queued"), &json!(true), &json!([]))
    );
    let made = id(&queued);
    assert_eq!(stand.fetched(&made).await["status"], "in_progress");
    let body = hi(json!({"previous_response_id": made}));
    assert_eq!(
        refused(&stand.post("/v1/responses", &body).await),
        (
            400,
            "response_in_progress".to_owned(),
            "previous_response_id".to_owned()
        )
    );
    let stream = stand
        .get(&format!("/v1/responses/{made}?stream=true"))
        .await;
    assert_eq!(
        (stream.status(), refused(&stream).2.as_str()),
        (400, "stream")
    );
    gate.add_permits(1);
    let done = loop {
        let fetched = stand.fetched(&made).await;
        if fetched["status"] != "in_progress" {
            break fetched;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(done["status"], "completed");
    assert_eq!(done["output"][0]["content"][0]["text"], "Hello!");
    gate.add_permits(1);
    stand.respond(json!({"previous_response_id": made})).await;
    assert_eq!(
        stand.asked(),
        pairs(&[("user", "Hi"), ("assistant", "Hello!"), ("user", "Hi")])
    );
}

#[tokio::test]
async fn a_background_stream_can_be_left_and_resumed() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let body = hi(json!({"background": true, "stream": true}));
    let request = Request::post("/v1/responses").body(Full::new(Bytes::from(body.to_string())));
    let answer = stand.door.serve(request.expect("a request")).await;
    let mut events = answer.into_body().into_data_stream();
    let first = events.next().await.expect("an event").expect("no error");
    let first = String::from_utf8(first.to_vec()).expect("text");
    assert!(first.contains("response.created"), "{first}");
    let at = first.find("resp_").expect("an id");
    let made = first[at..].split('"').next().expect("an id").to_owned();
    // The client leaves, and returns after the event with number 0.
    drop(events);
    let path = format!("/v1/responses/{made}?stream=true&starting_after=0");
    let resumed = {
        let request = Request::get(&path).body(Full::<Bytes>::default());
        stand.door.serve(request.expect("a request")).await
    };
    gate.add_permits(1);
    let live = resumed
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let live = String::from_utf8(live.to_vec()).expect("text");
    assert!(live.starts_with("event: response.in_progress"), "{live}");
    assert!(live.contains("\"sequence_number\":1"), "{live}");
    let end = stand.fetched(&made).await;
    assert_eq!(end["status"], "completed");
    // The store has the same events.
    let stored = stand.get(&path).await;
    assert_eq!(stored.text(), live);
    let all = stand
        .get(&format!("/v1/responses/{made}?stream=true"))
        .await;
    assert_eq!(checked(all.text()), end);
    let after = stand
        .get(&format!(
            "/v1/responses/{made}?stream=true&starting_after=9999"
        ))
        .await;
    assert_eq!((after.status(), after.text()), (200, ""));
}

#[tokio::test]
async fn a_background_response_can_be_cancelled_once_or_twice() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let made = id(&stand.respond(json!({"background": true})).await);
    let path = format!("/v1/responses/{made}/cancel");
    for _ in 0..2 {
        let cancelled = stand.post(&path, &Value::Null).await;
        assert_eq!(cancelled.status(), 200, "{}", cancelled.text());
        assert_eq!(cancelled.json()["status"], "cancelled");
    }
    assert_eq!(stand.fetched(&made).await["status"], "cancelled");
    gate.add_permits(1);
    let sync = id(&stand.respond(json!({})).await);
    let refused = stand
        .post(&format!("/v1/responses/{sync}/cancel"), &json!({}))
        .await;
    assert_eq!(refused.status(), 400);
    // A response that has ended is not changed.
    gate.add_permits(1);
    let done = id(&stand.respond(json!({"background": true})).await);
    while stand.fetched(&done).await["status"] == "in_progress" {
        tokio::task::yield_now().await;
    }
    let cancelled = stand
        .post(&format!("/v1/responses/{done}/cancel"), &Value::Null)
        .await;
    assert_eq!(cancelled.json()["status"], "completed");
}

#[tokio::test]
async fn a_background_response_whose_engine_dies_has_failed() {
    let stand = Stand::new(StandIn::hello().dies());
    let made = id(&stand.respond(json!({"background": true})).await);
    let failed = loop {
        let fetched = stand.fetched(&made).await;
        if fetched["status"] != "in_progress" {
            break fetched;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"]["code"], "server_error");
    // Without `background`, a failed response is not stored: the client gets the error.
    let answer = stand.post("/v1/responses", &hi(json!({}))).await;
    assert_eq!(answer.status(), 502);
}

/// A killed server leaves a response in progress; its hold expires.
#[tokio::test]
async fn a_background_response_whose_server_was_stopped_has_failed() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let made = id(&stand.respond(json!({"background": true})).await);
    let other = stand.second_server();
    assert_eq!(other.fetched(&made).await["status"], "in_progress");
    let runs_out = Change::Renew {
        kind: Kind::Response,
        id: made.clone(),
        holder: made.clone(),
        time: Duration::ZERO,
    };
    let renewed = other.store.write(&Owner::NOBODY, vec![runs_out]).await;
    renewed.expect("it is held");
    let failed = other.fetched(&made).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(
        failed["error"]["message"],
        "The server was stopped before the response ended."
    );
}

#[tokio::test]
async fn another_server_can_cancel_and_the_first_one_stops() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let made = id(&stand.respond(json!({"background": true})).await);
    let other = stand.second_server();
    let cancelled = other
        .post(&format!("/v1/responses/{made}/cancel"), &Value::Null)
        .await;
    assert_eq!(cancelled.json()["status"], "cancelled");
    // The first server ends its work, and does not replace what the second server wrote.
    gate.add_permits(1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stand.fetched(&made).await["status"], "cancelled");
}

#[tokio::test]
async fn a_background_response_must_be_stored() {
    let stand = Stand::new(StandIn::hello());
    let body = hi(json!({"background": true, "store": false}));
    let answer = stand.post("/v1/responses", &body).await;
    assert_eq!(
        refused(&answer),
        (
            400,
            "unsupported_parameter".to_owned(),
            "background".to_owned()
        )
    );
}

#[tokio::test]
async fn deleting_a_response_in_progress_stops_it() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let made = id(&stand.respond(json!({"background": true})).await);
    let path = format!("/v1/responses/{made}");
    let deleted = stand
        .ask_as(None, Method::DELETE, &path, &Value::Null)
        .await;
    assert_eq!(deleted.status(), 200);
    assert_eq!(stand.get(&path).await.status(), 404);
}

#[tokio::test]
async fn a_response_that_ends_while_it_is_fetched_has_the_status_of_its_output() {
    let gate = Arc::new(Semaphore::new(0));
    let mut stand = Stand::new(StandIn::hello().behind(&gate));
    let late = FaultyStore::before(&mut stand);
    late.reads.forget_permits(usize::MAX);
    let stand = Arc::new(stand);
    let made = id(&stand.respond(json!({"background": true})).await);
    let fetching = {
        let (stand, made) = (Arc::clone(&stand), made.clone());
        tokio::spawn(async move { stand.fetched(&made).await })
    };
    // The fetch waits for the store.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    while kept(&stand, Kind::Response, &made).await.0 {
        tokio::task::yield_now().await;
    }
    late.reads.add_permits(1000);
    let fetched = fetching.await.expect("no panic");
    assert_eq!(fetched["status"], "completed");
    assert_eq!(fetched["output"][0]["content"][0]["text"], "Hello!");
    assert!(fetched["usage"].is_object());
}

/// Waits until a response has ended, and returns it.
async fn end_of(stand: &Stand, id: &str) -> Value {
    loop {
        let fetched = stand.fetched(id).await;
        if fetched["status"] != "in_progress" {
            return fetched;
        }
        tokio::task::yield_now().await;
    }
}

/// Begins a background stream. Returns the id of its response, and the rest of its events.
async fn begun_stream(stand: &Stand, more: Value) -> (String, JoinHandle<String>) {
    let mut body = hi(json!({"background": true, "stream": true}));
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    let request = Request::post("/v1/responses").body(Full::new(Bytes::from(body.to_string())));
    let answer = stand.door.serve(request.expect("a request")).await;
    let mut events = answer.into_body().into_data_stream();
    let first = events.next().await.expect("an event").expect("no error");
    let mut all = String::from_utf8(first.to_vec()).expect("text");
    let at = all.find("resp_").expect("an id");
    let made = all[at..].split('"').next().expect("an id").to_owned();
    let rest = tokio::spawn(async move {
        while let Some(events) = events.next().await {
            let events = events.expect("no error").to_vec();
            all.push_str(&String::from_utf8(events).expect("text"));
        }
        all
    });
    (made, rest)
}

/// The name of the last event of a stream, and its data.
fn last_event(stream: &str) -> (String, Value) {
    let last = stream.trim_end().rsplit("\n\n").next().expect("an event");
    let (name, data) = last.split_once("\ndata: ").expect("two lines");
    let data = serde_json::from_str(data).expect("JSON");
    (name.trim_start_matches("event: ").to_owned(), data)
}

/// OpenAI has no event for a cancelled response; its clients accept `response.failed` as the end.
#[tokio::test]
async fn the_stream_of_a_cancelled_response_ends_with_failed_whose_response_is_cancelled() {
    for by_second_server in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let stand = Stand::new(StandIn::hello().behind(&gate));
        let (made, stream) = begun_stream(&stand, json!({})).await;
        let other = stand.second_server();
        let at = if by_second_server { &other } else { &stand };
        let cancelled = at
            .post(&format!("/v1/responses/{made}/cancel"), &Value::Null)
            .await;
        assert_eq!(cancelled.json()["status"], "cancelled");
        let live = stream.await.expect("no panic");
        let end = checked(&live);
        assert_eq!(end["status"], "cancelled");
        let (name, data) = last_event(&live);
        assert_eq!(name, "response.failed");
        assert_eq!(data["response"]["error"], Value::Null);
        let again = stand
            .get(&format!("/v1/responses/{made}?stream=true"))
            .await;
        assert_eq!(last_event(again.text()).0, "response.failed");
        assert_eq!(checked(again.text())["status"], "cancelled");
    }
}

#[tokio::test]
async fn a_cancellation_that_comes_late_does_not_replace_a_completed_response() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let made = id(&stand.respond(json!({"background": true})).await);
    let mut other = stand.second_server();
    let late = FaultyStore::before(&mut other);
    late.writes.forget_permits(usize::MAX);
    let cancelling = {
        let path = format!("/v1/responses/{made}/cancel");
        tokio::spawn(async move { other.post(&path, &Value::Null).await })
    };
    // The second server has read that the response is in progress, and waits before it writes.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(end_of(&stand, &made).await["status"], "completed");
    late.writes.add_permits(1);
    let answer = cancelling.await.expect("no panic").json();
    assert_eq!(answer["status"], "completed");
    assert_eq!(answer["output"][0]["content"][0]["text"], "Hello!");
    assert_eq!(stand.fetched(&made).await["status"], "completed");
}

/// A server that was slow for longer than its hold, while another one looked at the response.
#[tokio::test]
async fn a_failure_that_was_seen_stays() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let (made, stream) = begun_stream(&stand, json!({})).await;
    let runs_out = Change::Renew {
        kind: Kind::Response,
        id: made.clone(),
        holder: made.clone(),
        time: Duration::ZERO,
    };
    let renewed = stand.store.write(&Owner::NOBODY, vec![runs_out]).await;
    renewed.expect("it is held");
    let other = stand.second_server();
    assert_eq!(other.fetched(&made).await["status"], "failed");
    gate.add_permits(1);
    stream.await.expect("no panic");
    assert_eq!(stand.fetched(&made).await["status"], "failed");
}

fn away() -> StoreError {
    StoreError::Unavailable {
        cause: "the test".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_response_is_stored_when_the_store_works_again() {
    let gate = Arc::new(Semaphore::new(0));
    let mut stand = Stand::new(StandIn::hello().behind(&gate));
    let faulty = FaultyStore::before(&mut stand);
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let (made, stream) = begun_stream(&stand, json!({ "conversation": conversation })).await;
    faulty.fail([away(), away(), away(), away()]);
    gate.add_permits(1);
    let live = stream.await.expect("no panic");
    assert_eq!(faulty.errors_left(), 0);
    assert_eq!(checked(&live)["status"], "completed");
    assert_eq!(stand.fetched(&made).await["status"], "completed");
    assert!(!kept(&stand, Kind::Conversation, &conversation).await.0);
    let path = format!("/v1/conversations/{conversation}/items");
    let items = stand.get(&path).await.json();
    assert_eq!(items["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_not_tried_for_ever() {
    let mut stand = Stand::new(StandIn::hello());
    let faulty = FaultyStore::before(&mut stand);
    faulty.fail(std::iter::repeat_with(away).take(1000));
    let begun = tokio::time::Instant::now();
    let (_, stream) = begun_stream(&stand, json!({})).await;
    let live = stream.await.expect("no panic");
    // The client of the stream is not told that the response was completed.
    assert!(!live.contains("event: response.completed"), "{live}");
    let seconds = begun.elapsed().as_secs();
    assert!((25..=30).contains(&seconds), "{seconds} s");
}

#[tokio::test]
async fn an_end_that_can_never_be_stored_becomes_a_failure() {
    // The response is too large for the store.
    let gate = Arc::new(Semaphore::new(0));
    let mut stand = Stand::new(StandIn::hello().behind(&gate));
    let faulty = FaultyStore::before(&mut stand);
    faulty.fail([StoreError::Full]);
    let (made, stream) = begun_stream(&stand, json!({})).await;
    gate.add_permits(1);
    let end = checked(&stream.await.expect("no panic"));
    let error = end["error"]["message"].as_str().expect("a message");
    assert!(error.contains("no room"), "{error}");
    assert_eq!(end["output"][0]["content"][0]["text"], "Hello!");
    let stored = stand.fetched(&made).await;
    assert_eq!(
        (&stored["status"], &stored["output"], &stored["error"]),
        (&json!("failed"), &json!([]), &end["error"])
    );

    // The response's conversation was deleted in the meantime.
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let body = json!({"background": true, "conversation": conversation});
    let made = id(&stand.respond(body).await);
    let path = format!("/v1/conversations/{conversation}");
    let deleted = stand.ask_as(None, Method::DELETE, &path, &Value::Null);
    assert_eq!(deleted.await.status(), 200);
    gate.add_permits(1);
    let end = end_of(&stand, &made).await;
    assert_eq!(end["status"], "failed");
    let error = end["error"]["message"].as_str().expect("a message");
    assert!(error.contains(&conversation), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_gives_responses_its_time_and_stores_the_others_as_failed() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Stand::new(StandIn::hello().behind(&gate));
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let soon = id(&stand.respond(json!({"background": true})).await);
    let (late, stream) = begun_stream(&stand, json!({ "conversation": conversation })).await;
    while stand.engine.came() < 2 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    let begun = tokio::time::Instant::now();
    stand
        .door
        .background()
        .finish(Duration::from_secs(30))
        .await;
    assert_eq!(begun.elapsed().as_secs(), 28);
    let live = stream.await.expect("no panic");
    let end = checked(&live);
    assert_eq!(last_event(&live).0, "response.failed");
    // Another server shows the same response.
    let other = stand.second_server();
    assert_eq!(other.fetched(&soon).await["status"], "completed");
    let failed = other.fetched(&late).await;
    assert_eq!(failed, end);
    assert_eq!(failed["status"], "failed");
    assert_eq!(
        failed["error"]["message"],
        "The server was stopped before the response ended."
    );
    assert!(!kept(&stand, Kind::Conversation, &conversation).await.0);
    let refused = stand
        .post("/v1/responses", &hi(json!({"background": true})))
        .await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.json()["error"]["code"], "server_stopping");
}
