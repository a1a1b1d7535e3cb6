//! Ollama's own API: who may use the routes that change models.

use loggia_api::Policy;
use loggia_backend::OllamaRoute;
use loggia_server::{Holder, KeyDigest, KeyRules, Keys, Scope, ServerOptions};

use crate::test_server::{TestServer, body};

const OPERATOR: &str = "sk-of-the-operator-0123";
const ADMIN: &str = "sk-of-an-admin-01234567";
const USER: &str = "sk-of-a-user-0123456789";

async fn serving(keys: &[(&str, &[Scope])]) -> TestServer {
    let holder = |scopes: &[Scope]| {
        Holder::from(crate::keys::alice()).with_scopes(scopes.iter().copied().collect())
    };
    let keys = keys
        .iter()
        .map(|(key, scopes)| (KeyDigest::of(key), holder(scopes)));
    let options = ServerOptions {
        keys: Keys::of(KeyRules {
            keys: keys.collect(),
            ..KeyRules::default()
        }),
        ..ServerOptions::default()
    };
    let policy = Policy {
        ollama_api: OllamaRoute::ALL.to_vec(),
        ..Policy::default()
    };
    TestServer::with(options, policy).await
}

fn status_of(answer: &str) -> &str {
    &answer["HTTP/1.1 ".len()..][..3]
}

async fn ask(server: &TestServer, key: Option<&str>, route: OllamaRoute, end: &str) -> String {
    let json = r#"{"model":"backend","source":"backend"}"#;
    let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n"));
    let request = format!(
        "{} {route}{end} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{}content-length: {}\r\n\r\n{json}",
        route.method(),
        authorization.unwrap_or_default(),
        json.len()
    );
    server.ask(&request).await
}

/// The backend is no Ollama server, so a request that reaches it gets a 400.
#[tokio::test]
async fn changing_models_needs_the_scope_admin_and_everything_needs_chat() {
    let server = serving(&[
        (OPERATOR, &[Scope::Chat, Scope::Admin]),
        (ADMIN, &[Scope::Admin]),
        (USER, &[Scope::Chat]),
    ])
    .await;
    for route in OllamaRoute::ALL {
        let of_users = if route.changes_models() { "403" } else { "400" };
        for (key, status) in [
            (Some(OPERATOR), "400"),
            (Some(ADMIN), "403"),
            (Some(USER), of_users),
            (Some("sk-wrong-0123456789012"), "401"),
            (None, "401"),
        ] {
            for end in ["", "/", "?a=b"] {
                let answer = ask(&server, key, route, end).await;
                assert_eq!(status_of(&answer), status, "{key:?} {route}{end}: {answer}");
                let error: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
                assert!(error["error"].is_string(), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn without_keys_nobody_changes_models() {
    let server = serving(&[]).await;
    for route in OllamaRoute::ALL {
        let status = if route.changes_models() { "401" } else { "400" };
        let answer = ask(&server, None, route, "").await;
        assert_eq!(status_of(&answer), status, "{route}: {answer}");
    }
}
