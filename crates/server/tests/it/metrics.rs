//! `GET /metrics`, from outside.

use std::sync::Arc;

use loggia_api::{Caller, Policy};
use loggia_server::{Holder, KeyDigest, Keys, Scope, ServerOptions};

use crate::test_server::{TestServer, body, chat, last};

/// The metrics of a server.
async fn scrape(server: &TestServer) -> String {
    let answer = server.ask(&last("GET /metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    body(&answer).to_owned()
}

/// Asserts that the metrics have this line.
#[track_caller]
fn has(metrics: &str, line: &str) {
    assert!(
        metrics.lines().any(|one| one == line),
        "no `{line}` in:\n{metrics}"
    );
}

#[tokio::test]
async fn a_stream_is_in_flight_until_it_has_ended_and_then_counted() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("asked", true)).await;
    let engine = server.chat().await;
    engine.say("one").await;
    client.read_until("one").await;
    let before = scrape(&server).await;
    has(&before, "loggia_streams_in_flight 1");
    has(&before, "loggia_requests_in_flight 2");
    has(&before, "loggia_connections 2");
    engine.finish().await;
    client.read_until("data: [DONE]\n\n\r\n").await;
    drop(client);

    let after = scrape(&server).await;
    has(&after, "loggia_streams_in_flight 0");
    let chat = r#"loggia_requests_total{backend="backend",model="backend",outcome="complete",route="/v1/chat/completions",status="200"} 1"#;
    has(&after, chat);
    let of_model = r#"{backend="backend",model="backend"}"#;
    has(&after, &format!("loggia_prompt_tokens_total{of_model} 3"));
    has(
        &after,
        &format!("loggia_completion_tokens_total{of_model} 2"),
    );
    has(
        &after,
        &format!("loggia_time_to_first_token_seconds_count{of_model} 1"),
    );
    assert!(
        !after.contains("secret") && !after.contains("asked"),
        "{after}"
    );
}

#[tokio::test]
async fn errors_are_counted_by_their_code_before_an_answer_and_within_it() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("nobody", false)).await;
    client.read_until("}}").await;
    client.send(&chat("m", true)).await;
    let engine = server.chat().await;
    engine.say("one").await;
    // Dropping the engine simulates a crash.
    drop(engine);
    client.read_until("0\r\n\r\n").await;
    let metrics = scrape(&server).await;
    let errors =
        |code| format!(r#"loggia_errors_total{{code="{code}",route="/v1/chat/completions"}} 1"#);
    has(&metrics, &errors("model_not_found"));
    let in_stream = metrics.lines().filter(|line| {
        line.starts_with("loggia_errors_total") && !line.contains("model_not_found")
    });
    assert_eq!(in_stream.count(), 1, "{metrics}");
    let of_nobody = r#"loggia_requests_total{backend="",model="other",outcome="failed",route="/v1/chat/completions",status="404"} 1"#;
    has(&metrics, of_nobody);
    let failed = r#"loggia_requests_total{backend="backend",model="backend",outcome="failed",route="/v1/chat/completions",status="200"} 1"#;
    has(&metrics, failed);
}

#[tokio::test]
async fn a_server_with_keys_requires_one_with_the_scope_of_metrics() {
    let holder = |name: &str, scope| {
        let holder = Holder::from(Caller {
            name: Arc::from(name),
            strictness: None,
            models: None,
            may_delete_models: false,
            may_have_priority: false,
        });
        holder.with_scopes([scope].into_iter().collect())
    };
    let options = ServerOptions {
        keys: Keys::new([
            (KeyDigest::of("a-key"), holder("alice", Scope::Metrics)),
            (KeyDigest::of("chat-key"), holder("bob", Scope::Chat)),
        ]),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options, Policy::default()).await;
    let without = server.ask(&last("GET /metrics")).await;
    assert!(without.starts_with("HTTP/1.1 401"), "{without}");
    let request = |key| {
        format!(
            "GET /metrics HTTP/1.1\r\nhost: loggia\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
        )
    };
    let out_of_scope = server.ask(&request("chat-key")).await;
    assert!(out_of_scope.starts_with("HTTP/1.1 403"), "{out_of_scope}");
    let with = server.ask(&request("a-key")).await;
    assert!(with.starts_with("HTTP/1.1 200"), "{with}");
    assert!(!with.contains("alice") && !with.contains("a-key"), "{with}");
}

#[tokio::test]
async fn without_metrics_there_is_no_such_route() {
    for (metrics, metrics_route) in [(None, true), (ServerOptions::default().metrics, false)] {
        let options = ServerOptions {
            metrics,
            metrics_route,
            ..ServerOptions::default()
        };
        let server = TestServer::with(options, Policy::default()).await;
        let answer = server.ask(&last("GET /metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(answer.contains("unknown_url"), "{answer}");
    }
}

#[tokio::test]
async fn only_get_is_allowed() {
    let server = TestServer::up().await;
    let answer = server.ask(&last("POST /metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let head = server.ask(&last("HEAD /metrics")).await;
    assert!(
        head.starts_with("HTTP/1.1 200") && body(&head).is_empty(),
        "{head}"
    );
}
