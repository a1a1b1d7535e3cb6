//! Limits of connections, and what happens when one ends.

use std::time::Duration;

use loggia_api::{DoorChange, Policy};
use loggia_server::ServerOptions;

use crate::test_server::{TestServer, chat, last, soon, until};

#[tokio::test]
async fn a_client_that_is_slow_over_the_head_of_its_request_is_cut() {
    let options = ServerOptions {
        head_timeout: Duration::from_millis(50),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options, Policy::default()).await;
    let mut slow = server.client().await;
    slow.send("GET /healthz HTTP/1.1\r\nhost: log").await;
    assert!(slow.is_cut().await);
    let mut silent = server.client().await;
    assert!(silent.is_cut().await);
}

#[tokio::test]
async fn past_the_bound_a_new_connection_waits_for_one_to_end() {
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut first = server.client().await;
    first.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    first.read_until("\r\n\r\n").await;

    let mut second = server.client().await;
    second.send(&last("GET /healthz")).await;
    let waits = tokio::time::timeout(Duration::from_millis(50), second.read_until("\r\n")).await;
    assert!(waits.is_err(), "the second was served beside the first");

    drop(first);
    let mut third = second;
    assert!(third.rest().await.ends_with(r#"{"status":"ok"}"#));
}

#[tokio::test]
async fn a_refusal_of_a_large_body_arrives_although_the_client_sends_all_of_it_first() {
    let policy = Policy {
        body_limit: 1 << 10,
        ..Policy::default()
    };
    let server = TestServer::with(ServerOptions::default(), policy).await;
    let mut client = server.client().await;
    let length = 32 << 20;
    client.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")).await;
    client.send(&" ".repeat(length)).await;
    let answer = client.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"),
        "{answer}"
    );
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let options = ServerOptions {
        stall_timeout: Duration::from_millis(500),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    let long = "x".repeat(1 << 20);
    while performance.is_received(&long).await {}
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn requests_are_under_way_until_their_answer_has_ended() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    client.read_until("\"one\"").await;
    assert_eq!(server.in_flight.count(), 1);
    performance.finish().await;
    client.read_until("data: [DONE]\n\n").await;
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_drops_the_reply() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    client.read_until("\"one\"").await;
    drop(client);
    performance.dropped().await;
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_engine_has_accepted_ends_the_wait() {
    for stream in [true, false] {
        let mut server = TestServer::up().await;
        let mut client = server.client().await;
        client.send(&chat("undecided", stream)).await;
        let _performance = server.chat().await;
        assert_eq!(server.in_flight.count(), 1);
        drop(client);
        soon(server.dropped_early.notified()).await;
        until(|| server.in_flight.count() == 0).await;
    }
}

#[tokio::test]
async fn changed_settings_apply_to_the_next_request_of_an_open_connection() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    server.chat().await.finish().await;
    let answer = client.read_until("\r\n0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let policy = Policy {
        body_limit: 10,
        ..Policy::default()
    };
    let backend = server.door.backend().clone();
    server.door.change(DoorChange::new(backend, policy));
    client.send(&chat("backend", true)).await;
    let status = client.read_until("\r\n").await;
    assert_eq!(status, "HTTP/1.1 413 Payload Too Large\r\n");
}
