//! Webhooks: endpoints, and events about background responses, to a receiver on this machine.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::LOCATION};
use loggia_api::Store;
use loggia_api::store::{Change, Filter, Kind, Metadata, Object, Order, Owner, Page};
use loggia_backend::fetch_images::{Limits, WebhookSender};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::memory::{Stand, id};
use super::stand_in::{StandIn, hi};

/// A server that gets webhooks, and answers with given statuses, then with 200.
struct Receiver {
    port: u16,
    statuses: Arc<Mutex<VecDeque<StatusCode>>>,
    got: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    serving: JoinHandle<()>,
}

type Shared = (
    Arc<Mutex<VecDeque<StatusCode>>>,
    mpsc::UnboundedSender<(HeaderMap, Bytes)>,
);

async fn receive(
    State((statuses, got)): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(http::HeaderName, &'static str); 1]) {
    got.send((headers, body)).expect("the test waits for it");
    let status = statuses.lock().expect("no panic").pop_front();
    (status.unwrap_or(StatusCode::OK), [(LOCATION, "/elsewhere")])
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, got) = mpsc::unbounded_channel();
        let statuses = Arc::<Mutex<VecDeque<StatusCode>>>::default();
        let shared = (Arc::clone(&statuses), sender);
        let app = Router::new().fallback(receive).with_state(shared);
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self {
            port,
            statuses,
            got,
            serving,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?a=b", self.port)
    }

    fn sender(&self) -> Arc<WebhookSender> {
        Arc::new(WebhookSender::new(Limits {
            ports: vec![80, 443, self.port],
            networks: vec!["127.0.0.1".parse().expect("a network")],
            ..Limits::default()
        }))
    }

    /// Returns the next event. Checks the form of its headers first.
    async fn event(&mut self) -> (HeaderMap, Value) {
        let (headers, body) = self.got.recv().await.expect("a webhook");
        assert_eq!(headers["content-type"], "application/json");
        assert!(headers["webhook-signature"].as_bytes().starts_with(b"v1,"));
        (headers, serde_json::from_slice(&body).expect("JSON"))
    }

    fn has_more(&mut self) -> bool {
        self.got.try_recv().is_ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A stand that sends webhooks to this receiver.
fn stand(receiver: &Receiver, engine: StandIn) -> Stand {
    let mut stand = Stand::new(engine);
    stand.door = stand.door.with_webhooks(receiver.sender());
    stand
}

const ALL: [&str; 4] = [
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
];

async fn create(stand: &Stand, key: Option<&str>, url: &str, event_types: &[&str]) -> Value {
    let asked = json!({"name": "mine", "url": url, "event_types": event_types});
    let answer = stand
        .ask_as(key, Method::POST, "/v1/webhook_endpoints", &asked)
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

/// Returns how many events of an owner wait.
async fn waiting(stand: &Stand, owner: &Owner) -> usize {
    let all = Page {
        after: None,
        limit: 10_000,
        order: Order::Ascending,
    };
    let filter = Filter::default();
    let found = stand
        .store
        .objects(owner, Kind::WebhookDelivery, &filter, &all);
    found.await.expect("the store works").data.len()
}

#[tokio::test]
async fn each_key_gets_the_events_of_its_own_background_responses_and_no_text_of_them() {
    let mut receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    for key in ["a", "b"] {
        create(&stand, Some(key), &receiver.url(), &ALL).await;
    }
    let delivering = tokio::spawn(stand.door.clone().deliver_webhooks());
    let asked = hi(json!({}));
    let foreground = stand.ask_as(Some("a"), Method::POST, "/v1/responses", &asked);
    assert_eq!(foreground.await.status(), 200);
    let asked = hi(json!({"background": true, "metadata": {"secret": "text"}}));
    let answer = stand.ask_as(Some("a"), Method::POST, "/v1/responses", &asked);
    let made = id(&answer.await.json());
    let (headers, event) = receiver.event().await;
    let sent = headers["webhook-id"].to_str().expect("ASCII");
    assert!(sent.starts_with("wh_"), "{sent}");
    let (event_id, created_at) = (&event["id"], &event["created_at"]);
    assert!(event_id.as_str().is_some_and(|id| id.starts_with("evt_")));
    assert!(created_at.is_u64());
    let expected = json!({"id": event_id, "object": "event", "created_at": created_at,
        "type": "response.completed", "data": {"id": made}});
    assert_eq!(event, expected);
    // No event is sent to the other key's endpoint, nor for the response in the foreground.
    let sent = async {
        while waiting(&stand, &Owner::new(Some("a".into()))).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    sent.await;
    assert_eq!(waiting(&stand, &Owner::new(Some("b".into()))).await, 0);
    assert!(!receiver.has_more());
    delivering.abort();
}

#[tokio::test]
async fn an_event_that_is_not_accepted_is_sent_again_with_the_same_id() {
    let mut receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    create(&stand, None, &receiver.url(), &ALL).await;
    let statuses = [StatusCode::INTERNAL_SERVER_ERROR];
    receiver.statuses.lock().expect("no panic").extend(statuses);
    let delivering = tokio::spawn(stand.door.clone().deliver_webhooks());
    stand.respond(json!({"background": true})).await;
    let (first, second) = (receiver.event().await, receiver.event().await);
    assert_eq!(first.1, second.1);
    assert_eq!(first.0["webhook-id"], second.0["webhook-id"]);
    let time = |headers: &HeaderMap| -> u64 {
        let time = headers["webhook-timestamp"].to_str().expect("ASCII");
        time.parse().expect("a number")
    };
    assert!(time(&second.0) > time(&first.0));
    delivering.abort();
}

#[tokio::test]
async fn a_response_has_one_event_whoever_ends_it() {
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let stand = stand(&receiver, StandIn::hello().behind(&gate));
    let other = stand.second_server();
    create(&stand, None, &receiver.url(), &ALL).await;
    let delivering = tokio::spawn(stand.door.clone().deliver_webhooks());
    for at in [&stand, &other] {
        let made = id(&stand.respond(json!({"background": true})).await);
        for _ in 0..2 {
            let path = format!("/v1/responses/{made}/cancel");
            let cancelled = at.post(&path, &Value::Null).await.json();
            assert_eq!(cancelled["status"], "cancelled");
        }
        let (_, event) = receiver.event().await;
        assert_eq!(
            (&event["type"], &event["data"]),
            (&json!("response.cancelled"), &json!({"id": made}))
        );
    }
    assert!(!receiver.has_more());
    delivering.abort();
}

#[tokio::test]
async fn responses_of_a_killed_server_fail_and_tell_their_endpoints() {
    let mut receiver = Receiver::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let stand = stand(&receiver, StandIn::hello().behind(&gate));
    create(&stand, Some("a"), &receiver.url(), &ALL).await;
    let other = stand.second_server();
    let background = async || {
        let asked = hi(json!({"background": true}));
        let answer = stand.ask_as(Some("a"), Method::POST, "/v1/responses", &asked);
        id(&answer.await.json())
    };
    let status = async |id: &str| {
        let path = format!("/v1/responses/{id}");
        let answer = other.ask_as(Some("a"), Method::GET, &path, &Value::Null);
        answer.await.json()["status"].clone()
    };
    let living = background().await;
    let delivering = tokio::spawn(stand.door.clone().deliver_webhooks());
    let ending = tokio::spawn(other.door.clone().end_abandoned_responses());
    for _ in 0..2 {
        let made = background().await;
        let kind = Kind::Response;
        let run_out = Change::Renew {
            kind,
            id: made.clone(),
            holder: made.clone(),
            time: Duration::ZERO,
        };
        let due = Change::Schedule {
            kind,
            id: made.clone(),
            due: Some(1),
            content: 0,
        };
        let owner = Owner::new(Some("a".into()));
        let written = other.store.write(&owner, vec![run_out, due]).await;
        written.expect("it is held");
        let (_, event) = receiver.event().await;
        assert_eq!(
            (&event["type"], &event["data"]),
            (&json!("response.failed"), &json!({"id": made}))
        );
        assert_eq!(status(&made).await, "failed");
    }
    assert_eq!(status(&living).await, "in_progress");
    assert!(!receiver.has_more());
    ending.abort();
    delivering.abort();
}

#[tokio::test]
async fn an_endpoint_is_created_listed_changed_and_deleted_by_its_key_alone() {
    let receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    let created = create(&stand, Some("a"), &receiver.url(), &ALL).await;
    let secret = created["signing_secret"].as_str().expect("a secret");
    assert!(secret.starts_with("whsec_"), "{secret}");
    let hint = created["signing_secret_hint"].as_str().expect("a hint");
    assert!(secret.ends_with(hint.trim_start_matches("whsec_...")));
    let path = format!(
        "/v1/webhook_endpoints/{}",
        created["id"].as_str().expect("an id")
    );
    let mut shown = created.clone();
    shown
        .as_object_mut()
        .expect("an object")
        .remove("signing_secret");
    let ask = async |key: &str, method: Method, path: &str, body: Value| {
        let answer = stand.ask_as(Some(key), method, path, &body).await;
        (answer.status(), answer.json())
    };
    assert_eq!(
        ask("a", Method::GET, &path, Value::Null).await,
        (200, shown.clone())
    );
    let (_, list) = ask("a", Method::GET, "/v1/webhook_endpoints", Value::Null).await;
    assert_eq!(
        (&list["data"], &list["has_more"]),
        (&json!([shown]), &json!(false))
    );
    let (_, list) = ask("b", Method::GET, "/v1/webhook_endpoints", Value::Null).await;
    assert_eq!(list["data"], json!([]));
    for (method, tail) in [
        (Method::GET, ""),
        (Method::POST, ""),
        (Method::DELETE, ""),
        (Method::POST, "/rotate_secret"),
    ] {
        let foreign = ask("b", method, &format!("{path}{tail}"), json!({})).await;
        assert_eq!(foreign.0, 404, "{tail}");
    }
    let changed = json!({"event_types": ["batch.failed", "batch.failed"], "name": "new"});
    let (status, changed) = ask("a", Method::POST, &path, changed).await;
    assert_eq!(
        (status, &changed["event_types"]),
        (200, &json!(["batch.failed"]))
    );
    assert_eq!(
        (&changed["name"], &changed["url"]),
        (&json!("new"), &shown["url"])
    );
    let (status, rotated) = ask(
        "a",
        Method::POST,
        &format!("{path}/rotate_secret"),
        Value::Null,
    )
    .await;
    assert_eq!(status, 200);
    assert_ne!(rotated["signing_secret"], secret);
    let gone = json!({"id": created["id"], "object": "webhook_endpoint.deleted", "deleted": true});
    assert_eq!(
        ask("a", Method::DELETE, &path, Value::Null).await,
        (200, gone)
    );
    assert_eq!(ask("a", Method::GET, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_invalid_endpoint_is_refused() {
    let receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    let good = json!({"name": "mine", "url": receiver.url(), "event_types": ALL});
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("n".repeat(257))),
        ("url", json!("ftp://example.com/")),
        ("url", json!("http://user:word@example.com/")),
        ("url", json!("http://example.com:22/")),
        ("event_types", json!([])),
        ("event_types[1]", json!(["batch.failed", "video.completed"])),
    ] {
        let mut asked = good.clone();
        asked[field.split('[').next().expect("a name")] = value;
        let refused = stand.post("/v1/webhook_endpoints", &asked).await;
        assert_eq!(refused.status(), 400, "{asked}");
        assert_eq!(refused.json()["error"]["param"], field, "{asked}");
    }
    let mut ids = HashSet::new();
    for _ in 0..16 {
        let created = create(&stand, None, &receiver.url(), &ALL).await;
        assert!(ids.insert(id(&created)));
    }
    let one_more = stand.post("/v1/webhook_endpoints", &good).await;
    assert_eq!(one_more.json()["error"]["code"], "too_many_webhooks");
}

#[tokio::test]
async fn a_test_sends_one_event_and_follows_no_redirect() {
    let mut receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    let endpoint = create(&stand, None, &receiver.url(), &["batch.failed"]).await;
    let path = format!("/v1/webhook_endpoints/{}", id(&endpoint));
    let keep = json!({"keep_old_secret_active_for_24_hours": true});
    let rotated = stand.post(&format!("{path}/rotate_secret"), &keep).await;
    assert_eq!(rotated.status(), 200);
    for status in [StatusCode::FOUND, StatusCode::NO_CONTENT] {
        receiver
            .statuses
            .lock()
            .expect("no panic")
            .push_back(status);
        let asked = json!({"event_type": "batch.completed"});
        let tested = stand.post(&format!("{path}/test"), &asked).await.json();
        let expected = json!({"object": "webhook_endpoint.test", "success": true,
            "event_type": "batch.completed", "status_code": status.as_u16(),
            "webhook_endpoint_id": endpoint["id"]});
        assert_eq!(tested, expected);
        let (headers, event) = receiver.event().await;
        assert_eq!(event["type"], "batch.completed");
        // While both secrets are valid, the event has a signature of each.
        let signatures = headers["webhook-signature"].to_str().expect("ASCII");
        assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
        assert!(!receiver.has_more());
    }
}

#[tokio::test]
async fn no_address_is_called_that_is_not_allowed() {
    let receiver = Receiver::start().await;
    let mut stand = stand(&receiver, StandIn::hello());
    let endpoint = create(&stand, None, &receiver.url(), &ALL).await;
    let limits = Limits {
        ports: vec![receiver.port],
        ..Limits::default()
    };
    stand.door = stand
        .door
        .with_webhooks(Arc::new(WebhookSender::new(limits)));
    let path = format!("/v1/webhook_endpoints/{}/test", id(&endpoint));
    let refused = stand
        .post(&path, &json!({"event_type": "batch.failed"}))
        .await;
    assert_eq!(refused.status(), 400);
    let error = refused.json();
    assert_eq!(error["error"]["code"], "webhook_not_delivered");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(message.contains("its address is not public"), "{message}");
}

#[tokio::test]
async fn a_key_with_too_many_waiting_events_gets_no_more() {
    let receiver = Receiver::start().await;
    let stand = stand(&receiver, StandIn::hello());
    let endpoint = create(&stand, None, &receiver.url(), &ALL).await;
    let label = Metadata::from([("endpoint".to_owned(), id(&endpoint))]);
    for number in 0..999 {
        let object = Object {
            kind: Kind::WebhookDelivery,
            id: format!("wh_{number}"),
            created: 1,
            model: None,
            metadata: label.clone(),
            body: "{}".to_owned(),
            previous: None,
            is_held: false,
        };
        let created = stand.store.create(&Owner::NOBODY, object, Vec::new());
        created.await.expect("the store works");
    }
    for _ in 0..2 {
        let made = id(&stand.respond(json!({"background": true})).await);
        while stand.fetched(&made).await["status"] != "completed" {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(waiting(&stand, &Owner::NOBODY).await, 1000);
}
