//! Responses over a WebSocket, through sockets.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Request;
use loggia_api::{Caller, DoorChange, Policy};
use loggia_server::{KeyDigest, Keys, Origins, ServerOptions};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::test_server::{Log, TestServer, body, header, soon, until};

/// A client of one connection.
struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn of(server: &TestServer) -> Self {
        Self::with(server, &[]).await.unwrap()
    }

    /// Opens a connection with these headers. Returns the status of a refusal.
    async fn with(server: &TestServer, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let host = server.address.to_string();
        let mut request = Request::get(format!("ws://{host}/v1/responses"))
            .header("host", host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match soon(client_async(request.body(()).unwrap(), stream)).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn create(&mut self, more: Value) {
        let mut frame =
            json!({"type": "response.create", "model": "backend", "input": "secret words"});
        frame
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The code that the server closes the connection with.
    async fn closed(&mut self) -> CloseCode {
        loop {
            match soon(self.0.next()).await.unwrap().unwrap() {
                Message::Close(Some(frame)) => return frame.code,
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn handshake(more: &str) -> String {
    format!(
        "GET /v1/responses HTTP/1.1\r\nhost: loggia\r\nconnection: close, Upgrade\r\nupgrade: websocket\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn one_connection_makes_several_responses() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    for _ in 0..2 {
        client.create(json!({})).await;
        let chat = server.chat().await;
        chat.say("one").await;
        client.until("response.output_text.delta").await;
        assert_eq!(server.in_flight.count(), 1);
        chat.finish().await;
        let end = client.until("response.completed").await;
        assert_eq!(end["response"]["output"][0]["content"][0]["text"], "one");
        until(|| server.in_flight.count() == 0).await;
    }
    client.0.close(None).await.unwrap();
    assert!(matches!(
        soon(client.0.next()).await,
        Some(Ok(Message::Close(_)))
    ));
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn a_frame_that_came_with_the_handshake_is_read() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    let key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // A text frame with a mask of zeros.
    let frame = b"\x81\x82\0\0\0\0{}";
    let both = [handshake(key).as_bytes(), frame].concat();
    client.send_bytes(&both).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    assert!(header(&head, "x-request-id").is_some());
    let frame = client.read_bytes_until("}}").await;
    let frame = String::from_utf8_lossy(&frame);
    assert!(frame.contains("missing_required_parameter"), "{frame}");
    server.stop();
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn a_handshake_that_is_not_whole_is_refused() {
    let server = TestServer::up().await;
    for more in [
        "",
        "sec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "sec-websocket-version: 13\r\n",
    ] {
        let answer = server.ask(&handshake(more)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(header(&answer, "sec-websocket-version"), Some("13"));
        assert!(body(&answer).contains("invalid_handshake"), "{answer}");
    }
    let elsewhere = handshake("").replace("/v1/responses", "/v1/models");
    assert!(server.ask(&elsewhere).await.starts_with("HTTP/1.1 200 "));
    let post = handshake("").replace("GET", "PUT");
    assert!(server.ask(&post).await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn a_web_page_opens_one_only_with_a_key_or_from_an_origin_that_may() {
    let status = async |origins: Origins, origin: &str| {
        let options = ServerOptions {
            origins,
            ..ServerOptions::default()
        };
        let server = TestServer::with(options, Policy::default()).await;
        Client::with(&server, &[("origin", origin)]).await.map(drop)
    };
    let evil = "https://evil.example";
    assert_eq!(status(Origins::ThisMachine, evil).await, Err(403));
    assert_eq!(status(Origins::ThisMachine, "null").await, Err(403));
    assert_eq!(
        status(Origins::ThisMachine, "http://localhost:3000").await,
        Ok(())
    );
    assert_eq!(status(Origins::parse([evil]).unwrap(), evil).await, Ok(()));
    assert_eq!(
        status(Origins::parse(["https://other.example"]).unwrap(), evil).await,
        Err(403)
    );
    assert_eq!(status(Origins::Any, evil).await, Ok(()));

    let server = TestServer::up().await;
    let opened = async || Client::with(&server, &[("origin", evil)]).await.map(drop);
    assert_eq!(opened().await, Err(403));
    server.pages.change(Origins::Any);
    assert_eq!(opened().await, Ok(()));

    let server = with_key(&["backend"]).await;
    let key = ("authorization", "Bearer secret-of-alice-1");
    assert_eq!(
        Client::with(&server, &[("origin", evil)]).await.map(drop),
        Err(401)
    );
    assert_eq!(
        Client::with(&server, &[("origin", evil), key])
            .await
            .map(drop),
        Ok(())
    );
}

async fn with_key(models: &[&str]) -> TestServer {
    let alice = Caller {
        name: "alice".into(),
        strictness: None,
        models: Some(models.iter().map(|model| model.parse().unwrap()).collect()),
        may_delete_models: false,
        may_have_priority: false,
    };
    let options = ServerOptions {
        workers: 0,
        keys: Keys::new([(KeyDigest::of("secret-of-alice-1"), alice)]),
        ..ServerOptions::default()
    };
    TestServer::with(options, Policy::default()).await
}

#[tokio::test]
async fn each_response_is_a_line_in_the_log_and_the_key_holds_for_all() {
    let log = Log::default();
    let _logging = log.everything();
    let mut server = with_key(&["backend"]).await;
    let key = ("authorization", "Bearer secret-of-alice-1");
    assert_eq!(Client::with(&server, &[]).await.map(drop), Err(401));
    let mut client = Client::with(&server, &[key]).await.unwrap();
    client.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    chat.finish().await;
    client.until("response.completed").await;
    client.create(json!({"model": "another"})).await;
    assert_eq!(client.next().await["error"]["code"], "model_not_found");
    client.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    client.until("response.output_text.delta").await;
    drop(client);
    chat.dropped().await;
    until(|| server.in_flight.count() == 0).await;
    let line = |rest: &str| format!(r#"method="GET" route="/v1/responses" status={rest}"#);
    assert_eq!(
        log.answered(),
        [
            line(r#"401 outcome="failed""#),
            line(r#"101 key="alice" outcome="complete""#),
            line(r#"200 key="alice" outcome="complete" prompt_tokens=3 completion_tokens=2"#),
            line(r#"404 key="alice" outcome="failed""#),
            line(r#"200 key="alice" outcome="abandoned" completion_tokens=1"#),
        ]
    );
    let text = log.text();
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_frame_above_the_limit_and_one_that_is_none_close_the_connection() {
    let policy = Policy {
        body_limit: 1000,
        ..Policy::default()
    };
    let server = TestServer::with(ServerOptions::default(), policy).await;
    let mut client = Client::of(&server).await;
    client.create(json!({"input": "x".repeat(2000)})).await;
    assert_eq!(client.closed().await, CloseCode::Size);

    let mut raw = server.client().await;
    let key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    raw.send(&handshake(key)).await;
    raw.read_until("\r\n\r\n").await;
    // The client's frame is not masked.
    raw.send("\u{1}\u{2}{}").await;
    let end = raw.rest_of_bytes().await;
    assert_eq!(end[..4], [0x88, end[1], 0x03, 0xea], "1002");
}

#[tokio::test]
async fn a_panic_ends_one_response_and_not_the_connection() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    client.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    client.until("response.output_text.delta").await;
    chat.panic().await;
    let failed = client.until("response.failed").await;
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    client.create(json!({"model": "clumsy"})).await;
    assert_eq!(client.next().await["status"], 500);
    client.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    chat.finish().await;
    client.until("response.completed").await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_runs_and_closes() {
    let mut server = TestServer::up().await;
    let mut idle = Client::of(&server).await;
    let mut busy = Client::of(&server).await;
    busy.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    busy.until("response.output_text.delta").await;
    server.stop();
    assert_eq!(idle.closed().await, CloseCode::Restart);
    busy.create(json!({})).await;
    assert_eq!(
        busy.until("error").await["error"]["code"],
        "server_stopping"
    );
    chat.finish().await;
    busy.until("response.completed").await;
    assert_eq!(busy.closed().await, CloseCode::Restart);
    drop((idle, busy));
    server.stopped().await;
}

#[tokio::test]
async fn a_server_that_has_to_stop_ends_every_response_first() {
    let options = ServerOptions {
        shutdown_timeout: Duration::from_millis(800),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = Client::of(&server).await;
    client.create(json!({"stream_id": "a"})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    client.until("response.output_text.delta").await;
    client
        .create(json!({"stream_id": "b", "model": "undecided"}))
        .await;
    let _undecided = server.chat().await;
    server.stop();
    let (first, second) = (client.next().await, client.next().await);
    let mut ends = [&first, &second].map(|frame| frame["type"].as_str().unwrap());
    ends.sort_unstable();
    assert_eq!(ends, ["error", "response.failed"]);
    assert_eq!(client.closed().await, CloseCode::Restart);
    chat.dropped().await;
    server.stopped().await;
}

#[tokio::test]
async fn a_connection_that_is_idle_or_old_is_closed() {
    let idle = ServerOptions {
        websocket_idle_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(idle, Policy::default()).await;
    let mut client = Client::of(&server).await;
    client.create(json!({})).await;
    let chat = server.chat().await;
    // A response that is made is not idle.
    tokio::time::sleep(Duration::from_millis(600)).await;
    chat.say("one").await;
    chat.finish().await;
    client.until("response.completed").await;
    assert_eq!(client.closed().await, CloseCode::Away);

    let old = ServerOptions {
        websocket_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(old, Policy::default()).await;
    let mut client = Client::of(&server).await;
    client.create(json!({})).await;
    let chat = server.chat().await;
    chat.say("one").await;
    client.until("response.output_text.delta").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.create(json!({})).await;
    let error = client.until("error").await;
    assert_eq!(error["error"]["code"], "websocket_connection_limit_reached");
    chat.finish().await;
    client.until("response.completed").await;
    assert_eq!(client.closed().await, CloseCode::Away);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_engine_up() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    client.create(json!({})).await;
    let chat = server.chat().await;
    let text = "x".repeat(64 << 10);
    // The buffers of the kernel hold some megabytes; a server that reads on would take it all.
    let sent = async {
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(500), chat.is_received(&text))
            .await
            .is_ok()
        {
            sent += text.len();
            assert!(sent < 64 << 20, "nothing holds the engine up");
        }
    };
    sent.await;
    drop(client);
    chat.dropped().await;
}

#[tokio::test]
async fn a_connection_has_the_body_limit_of_the_time_when_it_was_opened() {
    let mut server = TestServer::up().await;
    let mut before = Client::of(&server).await;
    let policy = Policy {
        body_limit: 1000,
        ..Policy::default()
    };
    let backend = server.door.backend().clone();
    server.door.change(DoorChange::new(backend, policy));
    let mut after = Client::of(&server).await;
    let large = json!({"input": "x".repeat(2000)});
    after.create(large.clone()).await;
    assert_eq!(after.closed().await, CloseCode::Size);
    before.create(large).await;
    server.chat().await.finish().await;
    before.until("response.completed").await;
}
