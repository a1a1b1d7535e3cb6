//! API keys: who has access, the errors for others, and that no key is logged.

use std::sync::Arc;

use loggia_api::{Caller, Policy, Strictness};
use loggia_server::{KeyDigest, KeyRules, Keys, ServerOptions, TrustedHeader};

use crate::test_server::{TestServer, body, chat, header, last};

const KEY: &str = "sk-of-alice-0123456789";

pub(crate) fn alice() -> Caller {
    Caller {
        name: "alice".into(),
        strictness: None,
        models: None,
        may_delete_models: false,
        may_have_priority: false,
    }
}

async fn asking_for_keys() -> TestServer {
    with(alice()).await
}

async fn with(caller: Caller) -> TestServer {
    let keys = Keys::new([
        (KeyDigest::of("another-0123456789"), alice()),
        (KeyDigest::of(KEY), caller),
    ]);
    TestServer::with(
        ServerOptions {
            keys,
            ..ServerOptions::default()
        },
        Policy::default(),
    )
    .await
}

/// Adds an API key to a request.
fn bearing(key: &str, request: &str) -> String {
    request.replacen("\r\n", &format!("\r\nauthorization: Bearer {key}\r\n"), 1)
}

#[tokio::test]
async fn every_route_of_the_api_asks_for_a_key_and_the_servers_own_do_not() {
    let server = asking_for_keys().await;
    for line in [
        "GET /v1/models",
        "GET /v1/models/backend",
        "POST /v1/chat/completions",
        "GET /nowhere",
        "OPTIONS /v1/models",
    ] {
        let answer = server.ask(&last(line)).await;
        assert!(
            answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{answer}"
        );
        assert_eq!(header(&answer, "www-authenticate"), Some("Bearer"));
        assert_eq!(header(&answer, "content-type"), Some("application/json"));
        assert!(header(&answer, "x-request-id").is_some(), "{answer}");
        assert_eq!(
            body(&answer),
            r#"{"error":{"message":"You didn't provide an API key. Send yours in the header 'Authorization: Bearer YOUR_KEY', or in 'x-api-key'.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert!(
            server
                .ask(&last(&format!("GET {path}")))
                .await
                .starts_with("HTTP/1.1 200 OK\r\n")
        );
    }
}

#[tokio::test]
async fn a_key_lets_in_and_another_does_not() {
    let mut server = asking_for_keys().await;
    assert!(
        server
            .ask(&bearing(KEY, &last("GET /v1/models")))
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert!(
        server
            .ask(&bearing(KEY, &last("GET /nowhere")))
            .await
            .starts_with("HTTP/1.1 404 Not Found\r\n")
    );
    let mut client = server.client().await;
    client.send(&bearing(KEY, &chat("backend", true))).await;
    server.chat().await.finish().await;
    assert!(
        client
            .read_until("data: [DONE]\n\n")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );

    let wrong = "sk-of-nobody-987654321";
    let answer = server.ask(&bearing(wrong, &last("GET /v1/models"))).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 Unauthorized\r\n") && !answer.contains("987"),
        "{answer}"
    );
    assert_eq!(header(&answer, "www-authenticate"), Some("Bearer"));
    assert_eq!(
        body(&answer),
        r#"{"error":{"message":"Incorrect API key provided. Ask the operator of this server for a valid key.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#
    );
}

#[tokio::test]
async fn a_refused_request_is_answered_before_its_body_is_read() {
    let server = asking_for_keys().await;
    let mut client = server.client().await;
    client
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n{")
        .await;
    let answer = client.read_until("}}").await;
    assert!(
        answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_a_page_can_read_the_refusal() {
    let server = asking_for_keys().await;
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\norigin: http://localhost:3000\r\n\
                     access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n\r\n";
    let answer = server.ask(preflight).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(
        header(&answer, "access-control-allow-headers"),
        Some("authorization")
    );
    let page = "GET /v1/models HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\norigin: http://localhost:3000\r\n\r\n";
    let answer = server.ask(page).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{answer}"
    );
    assert_eq!(
        header(&answer, "access-control-allow-origin"),
        Some("http://localhost:3000")
    );
}

#[tokio::test]
async fn a_keys_models_and_strictness_reach_the_door() {
    let models = Arc::from(["other*".parse().expect("a pattern")]);
    let server = with(Caller {
        strictness: Some(Strictness::Strict),
        models: Some(models),
        ..alice()
    })
    .await;
    let answer = server
        .ask(&bearing(KEY, &last("GET /v1/models/backend")))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("model_not_found"),
        "{answer}"
    );
    let list = server.ask(&bearing(KEY, &last("GET /v1/models"))).await;
    assert_eq!(body(&list), r#"{"object":"list","data":[]}"#);
    let server = with(Caller {
        strictness: Some(Strictness::Strict),
        ..alice()
    })
    .await;
    let mut client = server.client().await;
    client
        .send(&bearing(
            KEY,
            &chat("backend", false).replacen("\"stream\"", "\"streem\"", 1),
        ))
        .await;
    let answer = client.read_until("}}").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains("streem"),
        "{answer}"
    );
}

#[tokio::test]
async fn without_keys_none_is_asked_for_and_any_is_taken() {
    let server = TestServer::up().await;
    assert!(
        server
            .ask(&bearing("unused", &last("GET /v1/models")))
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert!(
        server
            .ask(&last("GET /v1/models"))
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
}

#[tokio::test]
async fn a_proxy_that_becomes_trusted_names_users_on_connections_that_are_open() {
    let keys = Keys::default();
    let options = ServerOptions {
        keys: keys.clone(),
        live: None,
        ..ServerOptions::default()
    };
    let server = TestServer::with(options, Policy::default()).await;
    let mut client = server.client().await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: loggia\r\nx-user: alice\r\n\r\n";
    let trusting = |network: &str| KeyRules {
        required: Some(true),
        trusted: Some(TrustedHeader {
            header: http::HeaderName::from_static("x-user"),
            peers: vec![network.parse().unwrap()],
        }),
        ..KeyRules::default()
    };
    for (rules, status, end) in [
        (KeyRules::default(), "200 OK", "]}"),
        (trusting("10.0.0.0/8"), "401 Unauthorized", "}}"),
        (trusting("127.0.0.0/8"), "200 OK", "]}"),
        (trusting("10.0.0.0/8"), "401 Unauthorized", "}}"),
    ] {
        keys.change(rules);
        client.send(request).await;
        let answer = client.read_until(end).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
    }
}
