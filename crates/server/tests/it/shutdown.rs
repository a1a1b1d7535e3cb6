//! Stopping the server: what happens to running requests.

use std::time::Duration;

use loggia_api::Policy;
use loggia_server::ServerOptions;
use tokio::net::TcpStream;

use crate::test_server::{TestServer, chat, until};

#[tokio::test]
async fn a_stream_under_way_finishes_and_no_new_connection_is_taken() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    client.read_until("\"one\"").await;

    server.stop();
    let address = server.address;
    let mut refused = false;
    while !refused {
        refused = TcpStream::connect(address).await.is_err();
    }
    performance.say("two").await;
    performance.finish().await;
    let rest = client.rest().await;
    assert!(
        rest.contains("\"two\"") && rest.contains("data: [DONE]\n\n"),
        "{rest}"
    );
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    server.stopped().await;
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_at_the_deadline() {
    let options = ServerOptions {
        shutdown_timeout: Duration::from_millis(50),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    client.read_until("\"one\"").await;

    let in_flight = server.in_flight.clone();
    server.stop();
    server.stopped().await;
    performance.dropped().await;
    until(|| in_flight.count() == 0).await;
}

#[tokio::test]
async fn connections_that_ask_for_nothing_hold_nothing_up() {
    let mut server = TestServer::up().await;
    let mut silent = server.client().await;
    let mut idle = server.client().await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: loggia\r\n\r\n")
        .await;
    idle.read_until(r#"{"status":"ok"}"#).await;
    server.stop();
    server.stopped().await;
    assert!(silent.is_cut().await && idle.is_cut().await);
}

/// A task that a backend starts on one thread may serve streams of all threads.
#[tokio::test]
async fn no_thread_ends_before_the_last_stream_has() {
    let options = ServerOptions {
        workers: 2,
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut first = server.client().await;
    first.send(&chat("elsewhere", true)).await;
    server.chat().await.finish().await;
    first.read_until("data: [DONE]\n\n").await;
    let mut second = server.client().await;
    second.send(&chat("elsewhere", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    second.read_until("\"one\"").await;

    server.stop();
    assert_eq!(first.rest().await, "\r\n0\r\n\r\n");
    performance.say("two").await;
    performance.finish().await;
    let rest = second.rest().await;
    assert!(
        rest.contains("\"two\"") && rest.contains("data: [DONE]\n\n"),
        "{rest}"
    );
    server.stopped().await;
}
