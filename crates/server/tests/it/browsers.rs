//! Requests from pages in browsers.

use loggia_api::{Caller, Policy};
use loggia_server::{KeyDigest, KeyRules, Keys, Origins, ServerOptions};

use crate::test_server::{TestServer, body, header, last};

/// The preflight for a request of the `openai` package. It has no API key.
fn preflight(origin: &str) -> String {
    format!(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type,x-stainless-lang,x-stainless-retry-count\r\n\r\n"
    )
}

fn from(origin: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\norigin: {origin}\r\n\r\n")
}

async fn letting_in(origins: Origins) -> TestServer {
    TestServer::with(
        ServerOptions {
            origins,
            ..ServerOptions::default()
        },
        Policy::default(),
    )
    .await
}

#[tokio::test]
async fn a_preflight_is_answered_with_every_header_it_asks_for() {
    let server = TestServer::up().await;
    let answer = server.ask(&preflight("http://localhost:3000")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(
        header(&answer, "access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    assert_eq!(
        header(&answer, "access-control-allow-methods"),
        Some("GET,POST")
    );
    assert_eq!(
        header(&answer, "access-control-allow-headers"),
        Some("authorization,content-type,x-stainless-lang,x-stainless-retry-count")
    );
    assert_eq!(header(&answer, "access-control-max-age"), Some("7200"));
    assert!(header(&answer, "x-request-id").is_some());
    assert_eq!(body(&answer), "");
}

#[tokio::test]
async fn a_page_may_read_the_answers_own_headers_and_errors_too() {
    let server = TestServer::up().await;
    for path in ["/healthz", "/nowhere"] {
        let answer = server.ask(&from("http://localhost:3000", path)).await;
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            Some("http://localhost:3000")
        );
        assert_eq!(
            header(&answer, "access-control-expose-headers"),
            Some(
                "x-request-id,x-loggia-served-by,x-loggia-ignored,x-loggia-changed,x-loggia-reranked-by,x-loggia-assumed,request-id,x-loggia-truncated,x-loggia-estimated,retry-after,retry-after-ms,\
                x-ratelimit-limit-requests,x-ratelimit-remaining-requests,x-ratelimit-reset-requests,\
                x-ratelimit-limit-tokens,x-ratelimit-remaining-tokens,x-ratelimit-reset-tokens,\
                anthropic-ratelimit-requests-limit,anthropic-ratelimit-requests-remaining,\
                anthropic-ratelimit-requests-reset,anthropic-ratelimit-tokens-limit,\
                anthropic-ratelimit-tokens-remaining,anthropic-ratelimit-tokens-reset"
            )
        );
        assert!(
            header(&answer, "vary").is_some_and(|vary| vary.contains("origin")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_is_not_let_in_unless_it_is_named() {
    let elsewhere = "https://chat.example";
    let server = TestServer::up().await;
    assert_eq!(
        header(
            &server.ask(&preflight(elsewhere)).await,
            "access-control-allow-origin"
        ),
        None
    );

    let server = letting_in(Origins::parse([elsewhere]).unwrap()).await;
    assert_eq!(
        header(
            &server.ask(&preflight(elsewhere)).await,
            "access-control-allow-origin"
        ),
        Some(elsewhere)
    );
    assert_eq!(
        header(
            &server.ask(&preflight("http://localhost:3000")).await,
            "access-control-allow-origin"
        ),
        None
    );

    let server = letting_in(Origins::parse(["*"]).unwrap()).await;
    assert_eq!(
        header(
            &server.ask(&preflight(elsewhere)).await,
            "access-control-allow-origin"
        ),
        Some("*")
    );
}

#[tokio::test]
async fn the_pages_that_are_let_in_change_while_the_server_runs() {
    let server = TestServer::up().await;
    let elsewhere = "https://chat.example";
    let is_let_in = async || {
        let preflight = server.ask(&preflight(elsewhere)).await;
        let answer = server.ask(&from(elsewhere, "/healthz")).await;
        let allowed = [&preflight, &answer].map(|answer| {
            let allowed = header(answer, "access-control-allow-origin");
            allowed == Some(elsewhere)
        });
        assert_eq!(allowed[0], allowed[1]);
        allowed[0]
    };
    assert!(!is_let_in().await);
    server.pages.change(Origins::parse([elsewhere]).unwrap());
    assert!(is_let_in().await);
    server.pages.change(Origins::default());
    assert!(!is_let_in().await);
}

#[tokio::test]
async fn a_program_is_told_nothing_of_pages() {
    let server = TestServer::up().await;
    let answer = server.ask(&last("GET /healthz")).await;
    assert!(
        !answer.contains("access-control") && !answer.contains("vary"),
        "{answer}"
    );
    let answer = server.ask(&last("OPTIONS /v1/models")).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_page_may_send_delete_only_while_the_api_asks_for_keys() {
    let keys = Keys::default();
    let server = TestServer::with(
        ServerOptions {
            keys: keys.clone(),
            ..ServerOptions::default()
        },
        Policy::default(),
    )
    .await;
    let methods = async || {
        let answer = server.ask(&preflight("http://localhost:3000")).await;
        header(&answer, "access-control-allow-methods").map(str::to_owned)
    };
    let caller = Caller {
        name: "alice".into(),
        strictness: None,
        models: None,
        may_delete_models: true,
        may_have_priority: false,
    };
    let alice = (KeyDigest::of("sk-of-alice-0123456789"), caller.into());
    assert_eq!(methods().await.as_deref(), Some("GET,POST"));
    // Keys change while the server runs.
    keys.change(KeyRules {
        keys: vec![alice],
        ..KeyRules::default()
    });
    assert_eq!(methods().await.as_deref(), Some("GET,POST,DELETE"));
    keys.change(KeyRules::default());
    assert_eq!(methods().await.as_deref(), Some("GET,POST"));
}
