//! Stopping the server: what happens to running requests.

use std::time::Duration;

use loggia_api::Policy;
use loggia_server::ServerOptions;
use tokio::net::TcpStream;

use crate::test_server::{TestServer, body, chat, header, message, response, until};

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

/// Streams end with the error event of their format, the others with a 503 (529 in Anthropic's API),
/// and the connections are closed properly.
#[tokio::test]
async fn answers_that_do_not_finish_in_time_end_with_an_error() {
    let options = ServerOptions {
        shutdown_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let formats = [chat, message, response];
    let (mut streams, mut wholes, mut chats) = (Vec::new(), Vec::new(), Vec::new());
    for format in formats {
        let mut stream = server.client().await;
        stream.send(&format("backend", true)).await;
        let performance = server.chat().await;
        performance.say("one").await;
        stream.read_until("\"one\"").await;
        streams.push(stream);
        chats.push(performance);
        // One answer that has not begun, and one that is half written.
        for model in ["undecided", "backend"] {
            let mut whole = server.client().await;
            whole.send(&format(model, false)).await;
            let performance = server.chat().await;
            if model == "backend" {
                performance.say("one").await;
            }
            wholes.push(whole);
            chats.push(performance);
        }
    }
    let in_flight = server.in_flight.clone();
    server.stop();

    let last = [
        ("\r\ndata: {\"error\":", "server_stopping"),
        ("event: error\ndata: ", "shutting down"),
        ("event: response.failed\ndata: ", "shutting down"),
    ];
    for (mut stream, (begin, error)) in streams.into_iter().zip(last) {
        let rest = stream.rest().await;
        let event = rest.split(begin).nth(1);
        let event = event.unwrap_or_else(|| panic!("no {begin:?} in {rest}"));
        assert!(event.contains(error), "{rest}");
        assert!(event.ends_with("\n\n\r\n0\r\n\r\n"), "{rest}");
        assert_eq!(event.matches("data: ").count(), 0, "{rest}");
    }
    for mut whole in wholes {
        let rest = whole.rest().await;
        let is_anthropic = rest.contains("overloaded_error");
        let status = if is_anthropic { "529" } else { "503" };
        assert!(rest.starts_with(&format!("HTTP/1.1 {status} ")), "{rest}");
        assert_eq!(header(&rest, "connection"), Some("close"));
        assert!(body(&rest).contains("shutting down"), "{rest}");
    }
    server.stopped().await;
    for performance in chats {
        performance.dropped().await;
    }
    until(|| in_flight.count() == 0).await;
}

/// A client that reads nothing does not delay the end of the server.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_at_the_deadline() {
    let options = ServerOptions {
        shutdown_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    let long = "words ".repeat(10_000);
    // The buffers of the kernel and of the server are full when the backend must wait.
    while tokio::time::timeout(Duration::from_millis(50), performance.is_received(&long))
        .await
        .is_ok_and(|received| received)
    {}
    server.stop();
    server.stopped().await;
    performance.dropped().await;
}
