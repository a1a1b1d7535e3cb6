//! The log: one line per request, without anything that the client sent.

use loggia_api::{Caller, Policy};
use loggia_server::{KeyDigest, Keys, ServerOptions};

use crate::test_server::{Log, TestChat, TestServer, chat, last, until};

#[tokio::test]
async fn each_request_is_one_line_that_tells_how_it_ended() {
    let log = Log::default();
    let _logging = log.everything();
    let here = ServerOptions {
        workers: 0,
        ..ServerOptions::default()
    };
    let mut server = TestServer::with(here, Policy::default()).await;
    let in_flight = server.in_flight.clone();
    let ended = || until(|| in_flight.count() == 0);

    server.ask(&last("GET /healthz?secret=words")).await;
    server.ask(&last("GET /v1/models/secret")).await;
    server.ask(&last("SECRET /secret/words")).await;
    let mut complete = server.client().await;
    complete.send(&chat("backend", true)).await;
    server.chat().await.finish().await;
    complete.read_until("data: [DONE]\n\n").await;
    ended().await;
    let mut failed = server.client().await;
    failed.send(&chat("backend", true)).await;
    let performance = server.chat().await;
    performance.say("one").await;
    failed.read_until("\"one\"").await;
    drop::<TestChat>(performance);
    failed.read_until("0\r\n\r\n").await;
    ended().await;
    for model in ["backend", "undecided"] {
        let mut abandoned = server.client().await;
        abandoned.send(&chat(model, true)).await;
        let performance = server.chat().await;
        if model == "backend" {
            performance.say("one").await;
            abandoned.read_until("\"one\"").await;
        }
        drop(abandoned);
        ended().await;
    }

    let answered = log.answered();
    assert_eq!(
        answered,
        [
            r#"method="GET" route="/healthz" status=200 outcome="complete""#,
            r#"method="GET" route="/v1/models/{id}" status=404 outcome="failed""#,
            r#"method="other" status=404 outcome="failed""#,
            r#"method="POST" route="/v1/chat/completions" status=200 outcome="complete" prompt_tokens=3 completion_tokens=2"#,
            r#"method="POST" route="/v1/chat/completions" status=200 outcome="failed" completion_tokens=1"#,
            r#"method="POST" route="/v1/chat/completions" status=200 outcome="abandoned" completion_tokens=1"#,
            r#"method="POST" route="/v1/chat/completions" outcome="abandoned""#,
        ]
    );
    let text = log.text();
    assert!(!text.to_lowercase().contains("secret"), "{text}");
}

#[tokio::test]
async fn the_line_names_the_key_by_its_name_and_never_by_itself() {
    let log = Log::default();
    let _logging = log.everything();
    let alice = Caller {
        name: "alice".into(),
        strictness: None,
        models: None,
        may_delete_models: false,
        may_have_priority: false,
    };
    let keys = Keys::new([(KeyDigest::of("secret-of-alice-1"), alice)]);
    let server = TestServer::with(
        ServerOptions {
            workers: 0,
            keys,
            ..ServerOptions::default()
        },
        Policy::default(),
    )
    .await;
    for key in ["secret-of-alice-1", "secret-of-nobody-1"] {
        server
            .ask(&last("GET /v1/models").replacen(
                "\r\n",
                &format!("\r\nauthorization: Bearer {key}\r\n"),
                1,
            ))
            .await;
    }
    until(|| server.in_flight.count() == 0).await;
    assert_eq!(
        log.answered(),
        [
            r#"method="GET" route="/v1/models" status=200 key="alice" outcome="complete""#,
            r#"method="GET" route="/v1/models" status=401 outcome="failed""#,
        ]
    );
    assert!(!log.text().contains("secret"), "{}", log.text());
}

#[tokio::test]
async fn a_client_that_speaks_tls_to_a_plain_port_is_told_of_once() {
    let log = Log::default();
    let _logging = log.everything();
    let here = ServerOptions {
        workers: 0,
        ..ServerOptions::default()
    };
    let server = TestServer::with(here, Policy::default()).await;
    for _ in 0..3 {
        // The beginning of a ClientHello.
        server
            .ask("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03")
            .await;
    }
    until(|| log.text().contains("a client used TLS")).await;
    server.ask("no HTTP either\r\n\r\n").await;
    assert_eq!(
        log.text().matches("begin with http://").count(),
        1,
        "{}",
        log.text()
    );
}
