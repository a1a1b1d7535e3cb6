//! HTTP/2: requests beside each other on one connection, the limits of streams, and what happens when
//! a stream or its connection ends.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::response::Parts;
use http::{Method, Request};
use loggia_api::Policy;
use loggia_server::ServerOptions;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::test_server::{Log, TestServer, body, chat, last, message, response, soon, until};

/// A client with one connection.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn of(server: &TestServer) -> Self {
        Self::with(server, &Builder::new()).await
    }

    async fn with(server: &TestServer, builder: &Builder) -> Self {
        let (requests, connection) = connect(server, builder).await;
        let connection = tokio::spawn(connection);
        Self {
            requests,
            connection,
        }
    }

    /// Sends a request. Its body can be continued if it has none here.
    async fn send(
        &mut self,
        request: Request<()>,
        body: Option<String>,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        soon(poll_fn(|cx| self.requests.poll_ready(cx)))
            .await
            .unwrap();
        let (response, mut stream) = self.requests.send_request(request, false).unwrap();
        if let Some(body) = body {
            stream.send_data(body.into(), true).unwrap();
        }
        (response, stream)
    }

    /// Sends a request without a body, and reads the answer.
    async fn get(&mut self, path: &str) -> (Parts, String) {
        let request = Request::get(format!("http://loggia{path}"))
            .body(())
            .unwrap();
        let (response, _) = self.send(request, Some(String::new())).await;
        answer(response).await
    }

    /// Posts the body of a request as `test_server` writes it.
    async fn post(&mut self, path: &str, request: &str) -> ResponseFuture {
        self.send(to(path), Some(body(request).to_owned())).await.0
    }

    async fn chat(&mut self, model: &str, stream: bool) -> ResponseFuture {
        self.post("/v1/chat/completions", &chat(model, stream))
            .await
    }

    /// Waits until the server has ended the connection, and returns the error that it gave.
    async fn ended(self) -> Result<(), h2::Error> {
        let ended = soon(self.connection).await.unwrap();
        // Without this, the client would end the connection itself.
        drop(self.requests);
        ended
    }
}

async fn connect(
    server: &TestServer,
    builder: &Builder,
) -> (SendRequest<Bytes>, Connection<TcpStream>) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    soon(builder.handshake(stream)).await.unwrap()
}

fn to(path: &str) -> Request<()> {
    let request = Request::post(format!("http://loggia{path}"));
    request
        .header("content-type", "application/json")
        .body(())
        .unwrap()
}

async fn head(response: ResponseFuture) -> (Parts, RecvStream) {
    soon(response).await.unwrap().into_parts()
}

async fn answer(response: ResponseFuture) -> (Parts, String) {
    let (head, mut body) = head(response).await;
    let text = rest(&mut body).await.unwrap();
    (head, text)
}

/// Reads an answer to its end.
async fn rest(body: &mut RecvStream) -> Result<String, h2::Error> {
    let mut text = String::new();
    while let Some(piece) = soon(body.data()).await {
        text += &take(body, &piece?);
    }
    Ok(text)
}

/// Reads an answer until it has this text.
async fn read_until(body: &mut RecvStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let piece = soon(body.data()).await.unwrap().unwrap();
        text += &take(body, &piece);
    }
    text
}

fn take(body: &mut RecvStream, piece: &Bytes) -> String {
    body.flow_control().release_capacity(piece.len()).unwrap();
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn fifty_streams_run_beside_each_other_on_one_connection() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    let mut streams = Vec::new();
    for number in 0..50 {
        let response = client.chat("backend", true).await;
        let chat = server.chat().await;
        chat.say(&format!("word-{number}.")).await;
        streams.push((head(response).await.1, chat));
    }
    assert_eq!(server.in_flight.count(), 50);
    let metrics = server.ask(&last("GET /metrics")).await;
    assert!(
        metrics.contains("\nloggia_http2_connections 1\n"),
        "{metrics}"
    );
    for (number, (mut body, chat)) in streams.into_iter().enumerate().rev() {
        chat.finish().await;
        let text = rest(&mut body).await.unwrap();
        assert!(text.contains(&format!("\"word-{number}.\"")), "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    until(|| server.in_flight.count() == 0).await;
    drop(client);
}

#[tokio::test]
async fn answers_are_those_of_http_1() {
    let server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    for path in ["/healthz", "/v1/models", "/v1/models/none", "/nothing"] {
        let old = server.ask(&last(&format!("GET {path}"))).await;
        let (head, text) = client.get(path).await;
        assert_eq!(text, body(&old), "{path}");
        assert!(old.starts_with(&format!("HTTP/1.1 {} ", head.status.as_u16())));
        for line in old.split("\r\n\r\n").next().unwrap().lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            let found = head.headers.get(name).map(|value| value.to_str().unwrap());
            match name {
                "connection" => assert_eq!(found, None),
                "x-request-id" | "date" => assert!(found.is_some()),
                _ => assert_eq!(found, Some(value), "{path} {name}"),
            }
        }
    }
    let request = Request::head("http://loggia/healthz").body(()).unwrap();
    let (response, _) = client.send(request, Some(String::new())).await;
    let (head, text) = answer(response).await;
    assert_eq!(
        (head.headers["content-length"].as_bytes(), &*text),
        (&b"15"[..], "")
    );
}

#[tokio::test]
async fn the_log_marks_requests_over_http_2() {
    let log = Log::default();
    let _logging = log.everything();
    let here = ServerOptions {
        workers: 0,
        ..ServerOptions::default()
    };
    let server = TestServer::with(here, Policy::default()).await;
    server.ask(&last("GET /healthz")).await;
    Client::of(&server).await.get("/healthz").await;
    until(|| server.in_flight.count() == 0).await;
    assert_eq!(
        log.answered(),
        [
            r#"method="GET" route="/healthz" status=200 outcome="complete""#,
            r#"method="GET" route="/healthz" status=200 http2=true outcome="complete""#,
        ]
    );
}

#[tokio::test]
async fn a_stream_that_the_client_resets_drops_its_reply_and_no_other() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    let (first, mut first_stream) = client
        .send(
            to("/v1/chat/completions"),
            Some(body(&chat("backend", true)).to_owned()),
        )
        .await;
    let first_chat = server.chat().await;
    let second = client.chat("backend", true).await;
    let second_chat = server.chat().await;
    for chat in [&first_chat, &second_chat] {
        chat.say("one").await;
    }
    let mut first = head(first).await.1;
    read_until(&mut first, "\"one\"").await;
    first_stream.send_reset(Reason::CANCEL);
    first_chat.dropped().await;

    // Before the engine has accepted.
    let undecided = client.chat("undecided", true).await;
    let _chat = server.chat().await;
    drop(undecided);
    soon(server.dropped_early.notified()).await;

    second_chat.finish().await;
    let text = rest(&mut head(second).await.1).await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_drops_all_replies() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    let (mut responses, mut chats) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        responses.push(client.chat("backend", true).await);
        let chat = server.chat().await;
        chat.say("one").await;
        chats.push(chat);
    }
    client.connection.abort();
    for chat in chats {
        chat.dropped().await;
    }
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_stream_is_not() {
    let options = ServerOptions {
        head_timeout: Duration::from_millis(100),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut busy = Client::of(&server).await;
    let response = busy.chat("backend", true).await;
    let chat = server.chat().await;
    chat.say("one").await;
    let mut stream = head(response).await.1;
    let mut idle = Client::of(&server).await;
    idle.get("/healthz").await;
    idle.ended().await.unwrap();
    Client::of(&server).await.ended().await.unwrap();
    // The busy one is older.
    chat.finish().await;
    let text = rest(&mut stream).await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    busy.ended().await.unwrap();

    // One that stops within the preface, and one that stops after it.
    for begun in ["PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = server.client().await;
        client.send(begun).await;
        client.rest_of_bytes().await;
    }
}

#[tokio::test]
async fn a_preface_after_a_request_is_no_http_2() {
    let server = TestServer::up().await;
    let mut client = server.client().await;
    client
        .send("GET /healthz HTTP/1.1\r\nhost: loggia\r\n\r\n")
        .await;
    client.read_until(r#"{"status":"ok"}"#).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.is_cut().await);
}

#[tokio::test]
async fn when_the_server_stops_streams_finish_and_no_more_begin() {
    let mut server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    let mut idle = Client::of(&server).await;
    idle.get("/healthz").await;
    let response = client.chat("backend", true).await;
    let chat = server.chat().await;
    chat.say("one").await;
    let mut stream = head(response).await.1;
    read_until(&mut stream, "\"one\"").await;

    server.stop();
    idle.ended().await.unwrap();
    // The client is told only when it begins one more: some give up those that run.
    assert_eq!(client.get("/healthz").await.0.status, 200);
    soon(async {
        while poll_fn(|cx| client.requests.poll_ready(cx)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    chat.say("two").await;
    chat.finish().await;
    let text = rest(&mut stream).await.unwrap();
    assert!(
        text.contains("\"two\"") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    client.ended().await.unwrap();
    server.stopped().await;
}

/// Python's httpx gives up all streams of a connection when the server says that it closes it.
#[tokio::test]
async fn a_client_that_begins_no_more_is_told_of_the_stop_after_its_last_answer() {
    let mut server = TestServer::up().await;
    let mut client = server.client().await;
    client.send_bytes(&opening()).await;
    client.send_bytes(&frame(0x1, 0x5, 1, GET)).await;
    client.read_bytes_until(r#"{"status":"ok"}"#).await;
    let chat_request = body(&chat("backend", true)).to_owned();
    client.send_bytes(&frame(0x1, 0x4, 3, POST_CHAT)).await;
    client
        .send_bytes(&frame(0x0, 0x1, 3, chat_request.as_bytes()))
        .await;
    let chat = server.chat().await;
    chat.say("one").await;
    client.read_bytes_until("\"one\"").await;
    server.stop();
    let address = server.address;
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    chat.say("two").await;
    chat.finish().await;
    let before = client.read_bytes_until("data: [DONE]\n\n").await;
    assert!(before.windows(5).any(|text| text == b"\"two\""));
    let kinds: Vec<_> = frames(&client.rest_of_bytes().await)
        .map(|(kind, _)| kind)
        .collect();
    // Perhaps the empty end of the stream, then GOAWAY and a ping, which this client does not answer.
    assert!(
        matches!(kinds[..], [0x0, 0x7, 0x6, ..] | [0x7, 0x6, ..]),
        "{kinds:?}"
    );
    assert!(!frames(&before).any(|(kind, _)| kind == 0x7));
    server.stopped().await;
}

/// Clients that read only while they wait for an answer do not see that the server stops.
#[tokio::test]
async fn an_idle_client_that_does_not_read_does_not_hold_the_stop_up() {
    let mut server = TestServer::up().await;
    let (mut requests, mut connection) = connect(&server, &Builder::new()).await;
    let request = Request::get("http://loggia/healthz").body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    tokio::select! {
        head = head(response) => assert_eq!(head.0.status, 200),
        _ = &mut connection => panic!("the connection has ended"),
    }
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn answers_that_do_not_finish_in_time_end_with_an_error() {
    let options = ServerOptions {
        shutdown_timeout: Duration::from_millis(400),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = Client::of(&server).await;
    let routes = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];
    let formats = [chat, message, response];
    let (mut streams, mut wholes, mut chats) = (Vec::new(), Vec::new(), Vec::new());
    for (path, format) in routes.into_iter().zip(formats) {
        let stream = client.post(path, &format("backend", true)).await;
        let chat = server.chat().await;
        chat.say("one").await;
        streams.push(head(stream).await.1);
        chats.push(chat);
        for model in ["undecided", "backend"] {
            wholes.push(client.post(path, &format(model, false)).await);
            chats.push(server.chat().await);
        }
    }
    server.stop();
    let errors = [
        "data: {\"error\":",
        "event: error\n",
        "event: response.failed\n",
    ];
    for (mut stream, error) in streams.into_iter().zip(errors) {
        let text = rest(&mut stream).await.unwrap();
        let (_, event) = text.split_once(error).unwrap_or_else(|| panic!("{text}"));
        assert!(
            event.contains("shutting down") && event.ends_with("\n\n"),
            "{text}"
        );
    }
    for whole in wholes {
        let (head, text) = answer(whole).await;
        assert!([503, 529].contains(&head.status.as_u16()), "{head:?}");
        assert!(text.contains("shutting down"), "{text}");
    }
    client.ended().await.unwrap();
    server.stopped().await;
    for chat in chats {
        chat.dropped().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_while_others_go_on() {
    let options = ServerOptions {
        stall_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut small = Builder::new();
    small.initial_window_size(10_000);
    let mut client = Client::with(&server, &small).await;
    let read = client.chat("backend", true).await;
    let read_chat = server.chat().await;
    read_chat.say("one").await;
    let mut read = head(read).await.1;
    let stalled = client.chat("backend", true).await;
    let stalled_chat = server.chat().await;
    let long = "x".repeat(8_000);
    let mut said = 0;
    while stalled_chat.is_received(&long).await {
        said += long.len();
    }
    // What was taken of the engine before: the stream's piece and buffer, and the backend's channel.
    assert!(said < 300_000, "{said}");
    let mut stalled = head(stalled).await.1;
    let error = loop {
        // Without giving the window back.
        match soon(stalled.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the stream ended as if it were complete"),
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    read_chat.say("two").await;
    read_chat.finish().await;
    let text = rest(&mut read).await.unwrap();
    assert!(
        text.contains("\"two\"") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    until(|| server.in_flight.count() == 0).await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole_through_a_small_window() {
    let mut server = TestServer::up().await;
    let mut small = Builder::new();
    small.initial_window_size(1_000);
    let mut client = Client::with(&server, &small).await;
    let response = client.chat("backend", false).await;
    let chat = server.chat().await;
    let long = (0..40_000).map(|number| number.to_string());
    let long = long.collect::<Vec<_>>().join(" ");
    chat.say(&long).await;
    chat.finish().await;
    let (head, text) = answer(response).await;
    let length: usize = head.headers["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(text.len(), length);
    assert!(text.contains(&long));
}

#[tokio::test]
async fn requests_beyond_the_places_of_the_server_are_refused() {
    let options = ServerOptions {
        max_connections: 2,
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let mut client = Client::of(&server).await;
    let response = client.chat("backend", true).await;
    let chat = server.chat().await;
    chat.say("one").await;
    let mut stream = head(response).await.1;
    let _other = Client::of(&server).await;
    // The other connection has the second place as soon as it is accepted.
    let refused = soon(async {
        loop {
            let (head, text) = client.get("/healthz").await;
            if head.status != 200 {
                break (head, text);
            }
        }
    })
    .await;
    assert_eq!(refused.0.status, 503);
    assert!(refused.1.contains("server_full"), "{}", refused.1);
    assert!(refused.0.headers.contains_key("x-request-id"));
    chat.finish().await;
    rest(&mut stream).await.unwrap();
    soon(async { while client.get("/healthz").await.0.status != 200 {} }).await;
}

#[tokio::test]
async fn the_limits_of_a_connection_are_announced_and_hold() {
    let server = TestServer::up().await;
    let mut client = Client::of(&server).await;
    client.get("/healthz").await;
    assert_eq!(client.requests.current_max_send_streams(), 256);
    // WebSockets are for HTTP/1.1.
    assert!(!client.requests.is_extended_connect_protocol_enabled());

    let mut request = Request::get("http://loggia/healthz");
    for number in 0..9 {
        request = request.header(format!("x-{number}"), "x".repeat(8_000));
    }
    let (response, _) = client
        .send(request.body(()).unwrap(), Some(String::new()))
        .await;
    assert_eq!(head(response).await.0.status, 431);
    let request = Request::builder().method(Method::CONNECT).uri("loggia:1");
    let (response, _) = client
        .send(request.body(()).unwrap(), Some(String::new()))
        .await;
    assert_eq!(head(response).await.0.status, 404);
    assert_eq!(client.get("/healthz").await.0.status, 200);
}

#[tokio::test]
async fn a_body_that_is_slow_or_too_large_is_refused_as_an_answer() {
    let policy = Policy {
        body_within: Duration::from_millis(100),
        body_limit: 1 << 20,
        ..Policy::default()
    };
    let server = TestServer::with(ServerOptions::default(), policy).await;
    let mut client = Client::of(&server).await;
    let (response, mut stream) = client.send(to("/v1/chat/completions"), None).await;
    stream.send_data("{".into(), false).unwrap();
    assert_eq!(client.get("/healthz").await.0.status, 200);
    let (head, text) = answer(response).await;
    assert_eq!(head.status, 408, "{text}");

    let mut announced = to("/v1/chat/completions");
    announced
        .headers_mut()
        .insert("content-length", 2_000_000.into());
    let (response, _stream) = client.send(announced, None).await;
    assert_eq!(answer(response).await.0.status, 413);
    let (response, _) = client
        .send(to("/v1/chat/completions"), Some(" ".repeat(2_000_000)))
        .await;
    assert_eq!(answer(response).await.0.status, 413);
    assert_eq!(client.get("/healthz").await.0.status, 200);
}

/// A reset without an error, which a server may send after such an answer, makes curl and others lose
/// it while they still send.
#[tokio::test]
async fn what_is_left_of_a_refused_body_is_read_and_the_stream_is_not_reset() {
    let policy = Policy {
        body_limit: 1 << 10,
        ..Policy::default()
    };
    let server = TestServer::with(ServerOptions::default(), policy).await;
    let mut client = server.client().await;
    client.send_bytes(&opening()).await;
    // With a content-length.
    let too_large = [POST_CHAT, b"\x0f\x0d\x0560000"].concat();
    client.send_bytes(&frame(0x1, 0x4, 1, &too_large)).await;
    let mut answer = client.read_bytes_until("}}").await;
    for number in 0..30_u8 {
        let end = u8::from(number == 29);
        client.send_bytes(&frame(0x0, end, 1, &[b' '; 2_000])).await;
    }
    client.send_bytes(&frame(0x1, 0x5, 3, GET)).await;
    answer.extend(client.read_bytes_until(r#"{"status":"ok"}"#).await);
    assert!(frames(&answer).any(|(kind, _)| kind == 0x0));
    assert!(
        !frames(&answer).any(|(kind, _)| kind == 0x3),
        "the stream was reset"
    );
}

/// A client that opens streams and resets them at once costs the server nothing: the connection is
/// closed after some tens of them.
#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let server = TestServer::up().await;
    let mut client = server.client().await;
    let mut bytes = opening();
    for number in 0..100_u32 {
        let stream = 2 * number + 1;
        bytes.extend(frame(0x1, 0x5, stream, GET));
        bytes.extend(frame(0x3, 0, stream, &8_u32.to_be_bytes()));
    }
    client.send_bytes(&bytes).await;
    let answer = client.rest_of_bytes().await;
    // The last frame tells why: ENHANCE_YOUR_CALM.
    let goaway = frames(&answer).find(|(kind, _)| *kind == 0x7);
    let (_, payload) = goaway.expect("the connection ends with GOAWAY");
    assert_eq!(payload[4..8], 0xb_u32.to_be_bytes());
}

/// The head of a GET of `/healthz` at the host `x`, as HPACK.
const GET: &[u8] = b"\x82\x86\x04\x08/healthz\x41\x01x";

/// The head of a POST to the chat completions at the host `x`.
const POST_CHAT: &[u8] = b"\x83\x86\x04\x14/v1/chat/completions\x41\x01x";

/// The preface of a client, with its settings.
fn opening() -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(0x4, 0, 0, b""),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The kinds and payloads of frames.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some((head[3], payload))
    })
}
