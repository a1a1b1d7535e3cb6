//! Properties of all answers: a request id, and a 500 if the code panics.

use crate::test_server::{Readiness, TestServer, body, chat, header, last, message, response};

#[tokio::test]
async fn every_answer_bears_a_request_id() {
    let mut server = TestServer::up().await;
    server.becomes(Readiness::Panics);
    let asked = [
        (last("GET /healthz"), "200 OK"),
        (last("GET /v1/models"), "200 OK"),
        (last("GET /nowhere"), "404 Not Found"),
        (last("GET /v1/models/nobody"), "404 Not Found"),
        (last("DELETE /v1/models"), "405 Method Not Allowed"),
        (last("GET /readyz"), "500 Internal Server Error"),
    ];
    for (request, status) in asked {
        let answer = server.ask(&request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        let id = header(&answer, "x-request-id").unwrap_or_else(|| panic!("no id in {answer}"));
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
    }
    let mut client = server.client().await;
    client.send(&chat("backend", true)).await;
    server.chat().await.finish().await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(header(&head, "x-request-id").is_some(), "{head}");
}

#[tokio::test]
async fn a_clients_own_request_id_comes_back_where_it_is_fit() {
    let server = TestServer::up().await;
    let with = |id: &str| {
        format!(
            "GET /healthz HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n"
        )
    };
    let answer = server.ask(&with("trace-17")).await;
    assert_eq!(header(&answer, "x-request-id"), Some("trace-17"));
    for unfit in ["two words", &"x".repeat(200), "é"] {
        let answer = server.ask(&with(unfit)).await;
        let id = header(&answer, "x-request-id").expect("an id");
        assert!(id.starts_with("req_"), "{id}");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_in_openais_shape_and_the_server_goes_on() {
    let server = TestServer::up().await;
    server.becomes(Readiness::Panics);
    let mut client = server.client().await;
    client
        .send("GET /readyz HTTP/1.1\r\nhost: loggia\r\n\r\n")
        .await;
    let answer = client.read_until("}}").await;
    assert!(
        answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{answer}"
    );
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(
        body(&answer),
        r#"{"error":{"message":"The server had an internal error. Its operator can find it in the log by the x-request-id of this answer.","type":"server_error","param":null,"code":"internal_error"}}"#
    );
    // The same connection can be used again.
    client.send(&last("GET /healthz")).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_panic_in_a_backend_is_a_500_too_and_quotes_nothing() {
    let server = TestServer::up().await;
    let mut client = server.client().await;
    client.send(&chat("clumsy", false)).await;
    let answer = client.read_until("}}").await;
    assert!(
        answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("secret words"), "{answer}");
    assert_eq!(server.in_flight.count(), 0);
}

#[tokio::test]
async fn a_panic_while_answering_a_message_is_a_500_in_anthropics_shape() {
    let server = TestServer::up().await;
    let request = message("clumsy", false);
    let answer = server
        .ask(&request.replacen("\r\n", "\r\nconnection: close\r\n", 1))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{answer}"
    );
    let id = header(&answer, "request-id").expect("an id");
    let start = r#"{"type":"error","error":{"type":"api_error","message":"The server had an internal error."#;
    assert!(body(&answer).starts_with(start), "{answer}");
    let end = format!(r#","request_id":"{id}"}}"#);
    assert!(body(&answer).ends_with(&end), "{answer}");
    assert!(!answer.contains("secret words"), "{answer}");
}

/// The error that reports a panic, in OpenAI's chats.
const PANICKED: &str = r#"{"error":{"message":"The server had an internal error. Its operator can find it in the log by the x-request-id of this answer.","type":"server_error","param":null,"code":"internal_error"}}"#;

#[tokio::test]
async fn a_panic_in_the_middle_of_a_stream_ends_it_as_any_failure_does() {
    let text = |text: &str| text.to_owned();
    let of_a_message = r#"{"type":"error","error":{"type":"api_error","message":"The server had an internal error."#;
    for (request, begins, contains) in [
        (chat("backend", true), format!("data: {PANICKED}"), text("")),
        (
            message("backend", true),
            format!("event: error\ndata: {of_a_message}"),
            text("\"request_id\":\"req_"),
        ),
        (
            response("backend", true),
            text("event: response.failed\ndata: "),
            text("\"status\":\"failed\""),
        ),
    ] {
        let mut server = TestServer::up().await;
        let mut client = server.client().await;
        client.send(&request).await;
        let performance = server.chat().await;
        performance.say("one").await;
        client.read_until("\"one\"").await;
        performance.panic().await;
        let rest = client.read_until("\r\n0\r\n\r\n").await;
        let last = rest.trim_end_matches("\n\n\r\n0\r\n\r\n");
        assert!(last.len() < rest.len(), "{rest}");
        let last = &last[last.find(&begins).unwrap_or_else(|| panic!("{rest}"))..];
        assert!(
            !last.contains("\n\n"),
            "the last event is the error: {rest}"
        );
        assert!(last.contains(&contains), "{last}");
        assert!(!rest.contains("secret words"), "{rest}");
        // The very same connection serves on.
        client.send(&crate::test_server::last("GET /healthz")).await;
        assert!(client.rest().await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

/// Half of a sound must not look complete: the answer has no length, so its end is the last chunk.
#[tokio::test]
async fn speech_that_breaks_off_has_no_proper_end() {
    let server = TestServer::up().await;
    let speak = |model: &str| {
        let body = format!(r#"{{"model":"{model}","input":"Hi","voice":"v"}}"#);
        let length = body.len();
        format!(
            "POST /v1/audio/speech HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let whole = server.ask(&speak("clear")).await;
    assert!(whole.contains("content-type: audio/wav\r\n"), "{whole}");
    assert!(whole.ends_with("4\r\nRIFF\r\n0\r\n\r\n"), "{whole}");
    let mut client = server.client().await;
    client.send(&speak("hoarse")).await;
    let cut = String::from_utf8(client.rest_of_bytes().await).expect("text");
    // Nothing at all, if the engine breaks off before the head of the answer has left.
    assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
}
