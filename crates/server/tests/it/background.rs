//! Responses in the background: each counts in the log, the metrics and the ledger like the answer
//! of a request, once, when it has ended.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::future::BoxFuture;
use http::Method;
use loggia_api::store::{Change, Kind, Owner, StoreError, Usage, UsageStore};
use loggia_api::{MemoryStore, Policy, Store as _};
use loggia_server::{App, AppState, Ledger, Metrics, ServerOptions, app};
use serde_json::{Value, json};

use crate::prompt_backend::{PromptBackend, ask, keys, send};
use crate::test_server::{Log, soon};

/// A server with a ledger, over a store that it may share.
struct Server {
    app: App,
    metrics: Metrics,
    ledger: Ledger,
}

impl Server {
    fn new(store: &Arc<MemoryStore>) -> Self {
        Self::with(store, |state| state)
    }

    fn with(store: &Arc<MemoryStore>, change: impl FnOnce(AppState) -> AppState) -> Self {
        let metrics = Metrics::default();
        let options = ServerOptions {
            keys: keys(),
            metrics: Some(metrics.clone()),
            ..ServerOptions::default()
        };
        let ledger = Ledger::default();
        let state = AppState::new(Arc::new(PromptBackend), Policy::default(), options)
            .with_store(Arc::clone(store) as Arc<_>)
            .with_ledger(ledger.clone());
        Self {
            app: app(change(state)),
            metrics,
            ledger,
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let body = ("application/json", body.to_string());
        ask(&self.app, method, path, body).await
    }

    /// Begins a response, and returns its path.
    async fn begin(&self, model: &str) -> String {
        let body = json!({"model": model, "input": "secret words", "background": true});
        let begun = self.ask(Method::POST, "/v1/responses", body).await;
        assert_eq!(begun["status"], "queued", "{begun}");
        format!("/v1/responses/{}", begun["id"].as_str().expect("an id"))
    }

    /// Waits until no response is made any more.
    async fn is_done(&self) {
        soon(async {
            while self.value("loggia_background_responses") != Some(0.0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn value(&self, series: &str) -> Option<f64> {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok())
    }

    /// The series of requests for responses, with their counts.
    fn requests(&self) -> Vec<String> {
        let text = self.metrics.text();
        let of_responses = |line: &&str| {
            line.starts_with("loggia_requests_total")
                && line.contains(r#"route="/v1/responses",status"#)
        };
        let lines = text.lines().filter(of_responses);
        lines.map(str::to_owned).collect()
    }

    async fn usage(&self) -> Vec<Usage> {
        let written = Written::default();
        self.ledger.write(&written).await.expect("it is kept");
        written.0.into_inner().expect("nobody panics with it")
    }
}

/// Collects what a ledger writes.
#[derive(Default)]
struct Written(Mutex<Vec<Usage>>);

impl UsageStore for Written {
    fn add_usage(&self, usage: Vec<Usage>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.lock().expect("nobody panics with it").extend(usage);
        Box::pin(async { Ok(()) })
    }

    fn usage_since(&self, _: i64) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Asserts that one request of alice is in the ledger: for this model, with these numbers.
#[track_caller]
fn is_one_request(usage: &[Usage], model: &str, incomplete: u64, tokens: [u64; 3]) {
    let [one] = usage else {
        panic!("one row, and not {usage:?}");
    };
    assert_eq!((&*one.key, &*one.model), ("alice", model));
    let amount = one.amount;
    assert_eq!((amount.requests, amount.incomplete), (1, incomplete));
    let got = [
        amount.prompt_tokens,
        amount.cached_tokens,
        amount.completion_tokens,
    ];
    assert_eq!(got, tokens);
}

fn counted(outcome: &str) -> String {
    format!(
        r#"loggia_requests_total{{backend="b",model="m",outcome="{outcome}",route="/v1/responses",status="200"}} 1"#
    )
}

const OF_MODEL: &str = r#"{backend="b",model="m"}"#;

#[tokio::test]
async fn a_response_counts_once_with_its_tokens_when_it_has_ended() {
    let log = Log::default();
    let _collecting = log.everything();
    let server = Server::new(&Arc::default());
    server.begin("m").await;
    server.is_done().await;
    assert_eq!(server.requests(), [counted("complete")]);
    let tokens = |kind: &str| server.value(&format!("loggia_{kind}_tokens_total{OF_MODEL}"));
    assert_eq!(tokens("prompt"), Some(3.0));
    assert_eq!(tokens("completion"), Some(2.0));
    let waits = format!("loggia_queue_wait_seconds_count{OF_MODEL}");
    assert_eq!(server.value(&waits), Some(1.0));
    is_one_request(&server.usage().await, "m", 0, [3, 0, 2]);
    let line = r#"method="POST" route="/v1/responses" status=200 key="alice" background=true outcome="complete" prompt_tokens=3 completion_tokens=2"#;
    assert!(log.answered().contains(&line.to_owned()), "{}", log.text());
    assert!(!log.text().contains("secret words"), "{}", log.text());
}

#[tokio::test]
async fn the_time_to_the_first_token_of_a_followed_response_counts() {
    let server = Server::new(&Arc::default());
    let body = json!({"model": "m", "input": "x", "background": true, "stream": true});
    let body = ("application/json", body.to_string());
    // The client leaves at once.
    drop(send(&server.app, Method::POST, "/v1/responses", body).await);
    server.is_done().await;
    assert_eq!(server.requests(), [counted("complete")]);
    let first = format!("loggia_time_to_first_token_seconds_count{OF_MODEL}");
    assert_eq!(server.value(&first), Some(1.0));
}

#[tokio::test]
async fn a_cancelled_response_counts_as_abandoned_with_the_tokens_so_far() {
    let server = Server::new(&Arc::default());
    let path = server.begin("slow").await;
    let cancel = format!("{path}/cancel");
    // It has written its word before it takes the order to stop: it never waits before that.
    tokio::task::yield_now().await;
    let cancelled = server.ask(Method::POST, &cancel, json!({})).await;
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    server.is_done().await;
    assert_eq!(server.requests(), [counted("abandoned")]);
    is_one_request(&server.usage().await, "m", 1, [3, 1, 1]);
}

#[tokio::test]
async fn a_failed_response_counts_with_its_error() {
    let server = Server::new(&Arc::default());
    server.begin("broken").await;
    server.is_done().await;
    assert_eq!(server.requests(), [counted("failed")]);
    let text = server.metrics.text();
    let is_error = |line: &&str| line.starts_with("loggia_errors_total");
    let errors: Vec<_> = text.lines().filter(is_error).collect();
    assert!(
        matches!(errors[..], [one] if one.contains(r#"route="/v1/responses""#)),
        "{errors:?}"
    );
    is_one_request(&server.usage().await, "m", 1, [3, 1, 1]);
}

#[tokio::test]
async fn a_response_whose_server_was_killed_counts_at_the_one_that_finds_it() {
    let store = Arc::<MemoryStore>::default();
    let killed = tokio::runtime::Builder::new_multi_thread();
    let killed = { killed }.worker_threads(1).enable_all().build();
    let killed = killed.expect("a runtime");
    let first = Server::with(&store, |state| state.with_runtime(killed.handle().clone()));
    let path = first.begin("slow").await;
    killed.shutdown_background();
    // The hold of the killed server runs out.
    let id = path.rsplit('/').next().expect("an id").to_owned();
    let renew = Change::Renew {
        kind: Kind::Response,
        holder: id.clone(),
        id,
        time: Duration::ZERO,
    };
    let alice = Owner::new(Some("alice".into()));
    let renewed = store.write(&alice, vec![renew]).await;
    renewed.expect("there is a hold");

    let second = Server::new(&store);
    for _ in 0..2 {
        let found = second.ask(Method::GET, &path, json!({})).await;
        assert_eq!(found["status"], "failed", "{found}");
    }
    let failed = r#"loggia_requests_total{backend="",model="other",outcome="failed",route="/v1/responses",status="200"} 1"#;
    assert_eq!(second.requests(), [failed]);
    is_one_request(&second.usage().await, "slow", 1, [0, 0, 0]);
}

#[tokio::test]
async fn a_response_that_was_refused_counts_as_a_request_only() {
    let server = Server::new(&Arc::default());
    let body = json!({"model": "m", "input": [], "background": true, "store": false});
    let refused = server.ask(Method::POST, "/v1/responses", body).await;
    assert!(refused["error"].is_object(), "{refused}");
    let requests = server.requests();
    assert!(
        matches!(&requests[..], [one] if one.contains(r#"outcome="failed""#) && one.contains(r#"status="400""#)),
        "{requests:?}"
    );
    assert!(server.usage().await.is_empty());
}
