//! Keys that are created while the server runs: by the admin routes, and by another program that
//! has the same store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loggia_api::store::{KeyStore, MemoryKeyStore};
use loggia_server::{
    Holder, KeyDigest, KeyLimits, KeyRules, KeySettings, Keys, NewKey, Scope, ServerOptions,
};
use serde_json::{Value, json};

use crate::test_server::{TestServer, body, header};

const ADMIN: &str = "sk-of-the-operator-0123";

struct Served {
    server: TestServer,
    store: Arc<MemoryKeyStore>,
    keys: Keys,
}

/// A server with a key for its operator.
async fn served(rules: KeyRules) -> Served {
    let admin = Holder::from(crate::keys::alice());
    let admin = admin.with_scopes([Scope::Admin].into_iter().collect());
    let mut rules = rules;
    rules.keys.push((KeyDigest::of(ADMIN), admin));
    let keys = Keys::of(rules);
    let store = Arc::new(MemoryKeyStore::default());
    let options = ServerOptions {
        keys: keys.clone(),
        ..ServerOptions::default()
    };
    let kept = Arc::clone(&store) as Arc<dyn KeyStore>;
    let server = TestServer::with_keys_in(options, Arc::clone(&kept)).await;
    keys.load(&*kept).await.expect("keys");
    tokio::spawn(keys.clone().follow(kept));
    Served {
        server,
        store,
        keys,
    }
}

impl Served {
    async fn ask(&self, key: &str, line: &str, json: Option<&Value>) -> String {
        let text = json.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        self.server.ask(&request).await
    }

    async fn admin(&self, line: &str, json: Option<&Value>) -> (u16, Value) {
        let answer = self.ask(ADMIN, line, json).await;
        let json = serde_json::from_str(body(&answer)).expect("JSON");
        (status(&answer), json)
    }

    async fn may(&self, key: &str, line: &str) -> u16 {
        status(&self.ask(key, line, None).await)
    }
}

fn status(answer: &str) -> u16 {
    answer[9..12].parse().expect("a status")
}

#[tokio::test]
async fn an_operator_creates_changes_rotates_and_revokes_keys() {
    let it = served(KeyRules::default()).await;
    let asked = json!({"name": "bob", "scopes": ["chat"], "models": ["gpt-*"],
        "limits": {"requests_per_minute": 5}, "budget": 100, "expires_in_seconds": 3600});
    let (code, created) = it.admin("POST /admin/keys", Some(&asked)).await;
    assert_eq!(code, 200, "{created}");
    let key = created["value"].as_str().expect("a key").to_owned();
    let id = created["id"].as_str().expect("an id").to_owned();
    assert!(
        key.starts_with(
            created["redacted_value"]
                .as_str()
                .unwrap()
                .trim_end_matches('…')
        )
    );
    for (name, value) in asked.as_object().expect("an object") {
        if name != "expires_in_seconds" {
            let created = &created[name];
            assert_eq!(created, value, "{name}");
        }
    }
    // The new key works at once, and only with its scope and models.
    assert_eq!(it.may(&key, "GET /v1/models").await, 200);
    assert_eq!(it.may(&key, "GET /v1/models/backend").await, 404);
    assert_eq!(it.may(&key, "GET /v1/files").await, 403);
    assert_eq!(it.may(&key, "GET /admin/keys").await, 403);
    assert_eq!(it.may(ADMIN, "GET /v1/models").await, 403);

    let (code, taken) = it
        .admin("POST /admin/keys", Some(&json!({"name": "bob"})))
        .await;
    assert_eq!((code, &taken["error"]["code"]), (409, &json!("name_taken")));
    let (code, _) = it
        .admin("POST /admin/keys", Some(&json!({"name": "alice"})))
        .await;
    assert_eq!(code, 409, "the configuration has that name");

    let line = format!("POST /admin/keys/{id}");
    let (code, changed) = it.admin(&line, Some(&json!({"scopes": ["files"]}))).await;
    assert_eq!((code, &changed["budget"]), (200, &Value::Null));
    assert_eq!(it.may(&key, "GET /v1/models").await, 403);
    assert_ne!(it.may(&key, "GET /v1/files").await, 403);

    let line = format!("POST /admin/keys/{id}/rotate");
    let (code, rotated) = it.admin(&line, None).await;
    assert_eq!(code, 200);
    let second = rotated["value"].as_str().expect("a key").to_owned();
    assert_eq!(it.may(&key, "GET /v1/files").await, 401);
    assert_ne!(it.may(&second, "GET /v1/files").await, 401);
    let overlap = json!({"overlap_seconds": 60});
    let (_, rotated) = it.admin(&line, Some(&overlap)).await;
    let third = rotated["value"].as_str().expect("a key").to_owned();
    for key in [&second, &third] {
        assert_ne!(it.may(key, "GET /v1/files").await, 401);
    }

    let line = format!("DELETE /admin/keys/{id}");
    let (code, deleted) = it.admin(&line, None).await;
    assert_eq!((code, &deleted["deleted"]), (200, &json!(true)));
    for key in [&second, &third] {
        assert_eq!(it.may(key, "GET /v1/files").await, 401);
    }
    assert_eq!(it.admin(&line, None).await.0, 404);
    let (_, all) = it.admin("GET /admin/keys", None).await;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(1));
    assert!(all["data"][0]["revoked_at"].is_i64() && all["data"][0]["value"].is_null());
    let text = all.to_string();
    assert!(!text.contains(&third) && !text.contains("digest"), "{text}");
}

#[tokio::test]
async fn bad_requests_of_an_operator_are_refused() {
    let it = served(KeyRules::default()).await;
    for asked in [
        json!({}),
        json!({"name": "a b"}),
        json!({"name": "b", "scopes": []}),
        json!({"name": "b", "scopes": ["root"]}),
        json!({"name": "b", "models": ["a**"]}),
        json!({"name": "b", "limits": {"streams": 0}}),
        json!({"name": "b", "limits": {"requests": 1}}),
        json!({"name": "b", "expires_in_seconds": 0}),
        json!({"name": "b", "key": "mine"}),
    ] {
        let (code, answer) = it.admin("POST /admin/keys", Some(&asked)).await;
        assert_eq!(code, 400, "{asked}: {answer}");
    }
    assert_eq!(it.admin("GET /admin/keys/key_x", None).await.0, 404);
    assert_eq!(it.admin("POST /admin/keys/key_x/rotate", None).await.0, 404);
    let answer = it.ask(ADMIN, "PUT /admin/keys", None).await;
    assert_eq!(
        (status(&answer), header(&answer, "allow")),
        (405, Some("GET, HEAD, POST"))
    );
    for nobody in ["", "wrong"] {
        assert_eq!(it.may(nobody, "GET /admin/keys").await, 401);
    }
}

#[tokio::test]
async fn a_change_of_another_program_is_noticed_within_a_second() {
    let it = served(KeyRules::default()).await;
    let new = |name: &str, expires| NewKey::new(name, &KeySettings::default(), 0, expires);
    let NewKey { text, stored } = new("carol", None);
    it.store.create_key(stored.clone()).await.expect("created");
    within_a_second(async || it.may(&text, "GET /v1/models").await == 200).await;
    it.store.revoke_key(&stored.id, 1).await.expect("revoked");
    within_a_second(async || it.may(&text, "GET /v1/models").await == 401).await;
    // An expired key is a wrong key.
    let expired = new("dave", Some(1));
    it.store.create_key(expired.stored).await.expect("created");
    let valid = new("erin", None);
    it.store.create_key(valid.stored).await.expect("created");
    within_a_second(async || it.may(&valid.text, "GET /v1/models").await == 200).await;
    assert_eq!(it.may(&expired.text, "GET /v1/models").await, 401);
}

async fn within_a_second(mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "not within a second"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_first_key_closes_the_server_and_the_last_revocation_does_not_open_it() {
    let keys = Keys::default();
    let store = MemoryKeyStore::default();
    keys.load(&store).await.expect("keys");
    assert!(!keys.are_required() && !keys.have_any());
    let new = NewKey::new("a", &KeySettings::default(), 0, None);
    let id = new.stored.id.clone();
    store.create_key(new.stored).await.expect("created");
    keys.load(&store).await.expect("keys");
    assert!(keys.are_required());
    store.revoke_key(&id, 1).await.expect("revoked");
    keys.load(&store).await.expect("keys");
    assert!(keys.are_required() && keys.have_any());
    let open = Keys::of(KeyRules {
        required: Some(false),
        ..KeyRules::default()
    });
    open.load(&store).await.expect("keys");
    assert!(!open.are_required());
}

#[tokio::test]
async fn limits_are_told_in_the_headers_of_each_api() {
    let limits = KeyLimits {
        requests_per_minute: Some(2),
        tokens_per_minute: Some(1000),
        ..KeyLimits::default()
    };
    let it = served(KeyRules {
        limits: Some(limits),
        ..KeyRules::default()
    })
    .await;
    let (_, created) = it
        .admin("POST /admin/keys", Some(&json!({"name": "bob"})))
        .await;
    let key = created["value"].as_str().expect("a key");
    // Each request panics, which gives back its reservation.
    let chat = json!({"model": "clumsy", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]});
    for (path, names) in [
        (
            "/v1/chat/completions",
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-remaining-tokens",
            ],
        ),
        (
            "/v1/messages",
            [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-tokens-remaining",
            ],
        ),
    ] {
        let answer = it.ask(key, &format!("POST {path}"), Some(&chat)).await;
        assert_eq!(header(&answer, names[0]), Some("2"), "{answer}");
        assert!(header(&answer, names[1]).is_some());
        assert!(header(&answer, names[2]).is_some());
    }
    for (path, kind, name) in [
        (
            "/v1/chat/completions",
            "rate_limit_exceeded",
            "x-ratelimit-remaining-requests",
        ),
        (
            "/v1/messages",
            "rate_limit_error",
            "anthropic-ratelimit-requests-remaining",
        ),
    ] {
        let answer = it.ask(key, &format!("POST {path}"), Some(&chat)).await;
        assert_eq!(status(&answer), 429, "{answer}");
        assert!(answer.contains(kind), "{answer}");
        assert_eq!(header(&answer, name), Some("0"));
        let wait: u64 = header(&answer, "retry-after")
            .expect("a time")
            .parse()
            .expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
    }
    // Another key has limits of its own, and a request without a model has none.
    let (_, created) = it
        .admin("POST /admin/keys", Some(&json!({"name": "carol"})))
        .await;
    let other = created["value"].as_str().expect("a key");
    let answer = it
        .ask(other, "POST /v1/chat/completions", Some(&chat))
        .await;
    assert_ne!(status(&answer), 429, "{answer}");
    let answer = it.ask(key, "GET /v1/models", None).await;
    assert_eq!(status(&answer), 200);
    assert_eq!(header(&answer, "x-ratelimit-limit-requests"), None);
    assert!(it.keys.have_any());
}
