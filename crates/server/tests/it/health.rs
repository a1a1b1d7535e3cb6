//! `/healthz` and `/readyz`.

use std::time::Duration;

use loggia_api::Policy;
use loggia_server::ServerOptions;

use crate::test_server::{Readiness, TestServer, body, header, last};

#[tokio::test]
async fn the_process_is_healthy_whatever_becomes_of_the_backend() {
    let server = TestServer::up().await;
    server.becomes(Readiness::Down);
    let answer = server.ask(&last("GET /healthz")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(body(&answer), r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn it_is_ready_only_when_a_model_can_answer() {
    let server = TestServer::up().await;
    let answer = server.ask(&last("GET /readyz")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(body(&answer), r#"{"status":"ready"}"#);

    server.becomes(Readiness::Down);
    let answer = server.ask(&last("GET /readyz")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    assert_eq!(
        body(&answer),
        r#"{"error":{"message":"not ready: the backend `backend` cannot be reached; check that it is running","type":"server_error","param":null,"code":"not_ready"}}"#
    );
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_not_ready() {
    let options = ServerOptions {
        ready_timeout: Duration::from_millis(20),
        ..ServerOptions::default()
    };
    let server = TestServer::with(options, Policy::default()).await;
    server.becomes(Readiness::Silent);
    let answer = server.ask(&last("GET /readyz")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert_eq!(
        body(&answer),
        r#"{"error":{"message":"not ready: no answer from the backend within 0.02 s","type":"server_error","param":null,"code":"not_ready"}}"#
    );
}

#[tokio::test]
async fn another_method_on_the_servers_own_routes_is_a_405_in_openais_shape() {
    let server = TestServer::up().await;
    let answer = server.ask(&last("DELETE /healthz")).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{answer}"
    );
    assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
    assert_eq!(
        body(&answer),
        r#"{"error":{"message":"Not allowed to DELETE on /healthz; use GET.","type":"invalid_request_error","param":null,"code":"method_not_supported"}}"#
    );
    let answer = server.ask(&last("HEAD /healthz")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && body(&answer).is_empty(),
        "{answer}"
    );
}
