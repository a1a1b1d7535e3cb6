//! The console and the admin API that it reads: who may see it, and what it shows of requests.

use std::sync::Arc;

use loggia_api::store::{Kind, MemoryStore, Metadata, Object, Owner};
use loggia_api::{Policy, Store};
use loggia_server::{Holder, KeyDigest, KeyRules, Keys, Live, Scope, ServerOptions};
use serde_json::{Value, json};

use crate::test_server::{TestServer, body, header, soon};

const ADMIN: &str = "sk-of-the-operator-0123";
const USER: &str = "sk-of-alice-0123456789";

const READ: [&str; 4] = [
    "/admin/server",
    "/admin/live",
    "/admin/backends",
    "/admin/usage",
];

fn with_keys() -> ServerOptions {
    let named = |name| loggia_api::Caller {
        name: Arc::from(name),
        strictness: None,
        models: None,
        may_delete_models: false,
        may_have_priority: false,
    };
    let admin = Holder::from(named("ops")).with_scopes([Scope::Admin].into_iter().collect());
    let keys = vec![
        (KeyDigest::of(ADMIN), admin),
        (KeyDigest::of(USER), Holder::from(named("alice"))),
    ];
    ServerOptions {
        keys: Keys::of(KeyRules {
            keys,
            ..KeyRules::default()
        }),
        ..ServerOptions::default()
    }
}

async fn get(server: &TestServer, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    server.ask(&request).await
}

fn status(answer: &str) -> u16 {
    answer[9..12].parse().expect("a status")
}

fn bearer(key: &str) -> String {
    format!("host: h\r\nauthorization: Bearer {key}\r\n")
}

async fn read(server: &TestServer, path: &str, key: &str) -> Value {
    let answer = get(server, path, &bearer(key)).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    serde_json::from_str(body(&answer)).expect("JSON")
}

#[tokio::test]
async fn the_pages_are_for_everybody_and_run_only_their_own_scripts() {
    let server = TestServer::with(with_keys(), Policy::default()).await;
    for (path, content_type) in [
        ("/console", "text/html; charset=utf-8"),
        ("/console/main.js", "text/javascript; charset=utf-8"),
        ("/console/console.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(&server, path, "host: h\r\n").await;
        assert_eq!(status(&answer), 200, "{path}");
        assert_eq!(header(&answer, "content-type"), Some(content_type));
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "x-frame-options"), Some("DENY"));
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
        let policy = header(&answer, "content-security-policy").expect("a policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let page = get(&server, "/console", "host: h\r\n").await;
    assert!(
        !page.contains("<script>") && !page.contains("http:"),
        "{page}"
    );
    let answer = get(&server, "/console/", "host: h\r\n").await;
    assert_eq!(
        (status(&answer), header(&answer, "location")),
        (308, Some("../console"))
    );
    for path in [
        "/console/secret.js",
        "/console/../app.rs",
        "/console/%2e%2e/x",
    ] {
        assert_eq!(
            status(&get(&server, path, "host: h\r\n").await),
            404,
            "{path}"
        );
    }
    let answer = server
        .ask("POST /console HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&answer), 405);
}

#[tokio::test]
async fn with_keys_only_those_of_operators_read_the_admin_api() {
    let server = TestServer::with(with_keys(), Policy::default()).await;
    for path in READ {
        let local = "host: localhost\r\n";
        assert_eq!(status(&get(&server, path, local).await), 401, "{path}");
        assert_eq!(status(&get(&server, path, &bearer("sk-wrong")).await), 401);
        assert_eq!(status(&get(&server, path, &bearer(USER)).await), 403);
        // There is no store here.
        let expected = if path == "/admin/usage" { 404 } else { 200 };
        assert_eq!(status(&get(&server, path, &bearer(ADMIN)).await), expected);
    }
    let told = get(&server, "/console/session", "host: localhost\r\n").await;
    assert_eq!(body(&told), r#"{"needs_key":true}"#);
    let about = read(&server, "/admin/server", ADMIN).await;
    assert_eq!(about["key"], json!({"name": "ops", "scopes": ["admin"]}));
    assert_eq!(about["configured_keys"], json!(["ops", "alice"]));
}

#[tokio::test]
async fn without_keys_a_person_at_this_machine_reads_the_admin_api_and_nobody_else() {
    let server = TestServer::up().await;
    for path in ["/admin/server", "/admin/live", "/admin/backends"] {
        for host in ["localhost:11435", "127.0.0.1"] {
            let answer = get(&server, path, &format!("host: {host}\r\n")).await;
            assert_eq!(status(&answer), 200, "{path}");
        }
        for headers in [
            "host: rebound.example\r\n",
            "host: localhost\r\nx-forwarded-for: 10.0.0.7\r\n",
            "host: localhost\r\norigin: https://evil.example\r\n",
        ] {
            assert_eq!(status(&get(&server, path, headers).await), 401, "{headers}");
        }
    }
    let told = get(&server, "/console/session", "host: localhost\r\n").await;
    assert_eq!(body(&told), r#"{"needs_key":false}"#);
    let asked = get(&server, "/console/session", "host: rebound.example\r\n").await;
    assert_eq!(body(&asked), r#"{"needs_key":true}"#);
    // Creating the first key closes the server to everybody else at the machine.
    assert_eq!(
        status(&get(&server, "/admin/keys", "host: localhost\r\n").await),
        401
    );
}

#[tokio::test]
async fn a_running_stream_is_shown_until_it_has_ended_and_then_among_those() {
    let live = Live::default();
    let options = ServerOptions {
        live: Some(live.clone()),
        ..with_keys()
    };
    let mut server = TestServer::with(options, Policy::default()).await;
    let keeping = tokio::spawn(live.keep());
    let mut client = server.client().await;
    let asked =
        r#"{"model":"asked","messages":[{"role":"user","content":"a secret"}],"stream":true}"#;
    client
        .send(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: Bearer {USER}\r\nx-request-id: mine\r\ncontent-length: {}\r\n\r\n{asked}",
            asked.len()
        ))
        .await;
    let chat = server.chat().await;
    chat.say("one").await;
    chat.say("two").await;
    client.read_until("two").await;
    let state = read(&server, "/admin/live", ADMIN).await;
    let running = &state["running"][0];
    assert_eq!(state["running_count"], 1, "{state}");
    for (field, value) in [
        ("id", json!("mine")),
        ("key", json!("alice")),
        ("model", json!("asked")),
        ("route", json!("/v1/chat/completions")),
        ("backend", json!("backend")),
        ("stream", json!(true)),
        ("background", json!(false)),
        ("phase", json!("writing")),
    ] {
        assert_eq!(running[field], value, "{field}");
    }
    assert!(running["tokens"].as_u64() >= Some(2), "{running}");

    chat.finish().await;
    client.rest().await;
    let state = soon(async {
        loop {
            let state = read(&server, "/admin/live", ADMIN).await;
            let seconds = state["seconds"].as_array().expect("a list");
            if seconds.iter().any(|second| second["requests"] == 1) {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(state["running_count"], 0, "{state}");
    let ended = &state["ended"][0];
    assert_eq!(
        (&ended["status"], &ended["outcome"]),
        (&json!(200), &json!("complete"))
    );
    assert_eq!(
        (&ended["prompt_tokens"], &ended["completion_tokens"]),
        (&json!(3), &json!(2))
    );
    assert!(ended["first_token_ms"].is_u64(), "{ended}");
    assert!(!state.to_string().contains("secret"), "{state}");
    let now = state["now"].as_i64().expect("a time");
    let later = read(&server, &format!("/admin/live?after={}", now + 60), ADMIN).await;
    assert_eq!(
        (&later["seconds"], &later["ended"]),
        (&json!([]), &json!([]))
    );
    keeping.abort();
}

#[tokio::test]
async fn the_stored_responses_of_a_key_are_listed_for_it_alone() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    for (owner, id) in [("alice", "resp_1"), ("alice", "resp_2"), ("ops", "resp_3")] {
        let object = Object {
            kind: Kind::Response,
            id: id.to_owned(),
            created: 1,
            model: None,
            metadata: Metadata::new(),
            body: r#"{"model":"m","status":"completed","output":[{"text":"private"}]}"#.to_owned(),
            previous: None,
            is_held: false,
        };
        let owner = Owner::new(Some(Arc::from(owner)));
        store
            .create(&owner, object, Vec::new())
            .await
            .expect("stored");
    }
    let policy = Policy::default();
    let server = TestServer::with_state(with_keys(), policy, |state| state.with_store(store)).await;
    let ids = |list: &Value| {
        let data = list["data"].as_array().expect("a list").iter();
        data.map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    let all = read(&server, "/console/responses", USER).await;
    assert_eq!(ids(&all), ["resp_2", "resp_1"]);
    assert_eq!(all["data"][0]["status"], "completed");
    assert!(!all.to_string().contains("private"), "a list has no texts");
    let first = read(&server, "/console/responses?limit=1", USER).await;
    assert_eq!(
        (ids(&first), &first["has_more"]),
        (vec!["resp_2".to_owned()], &json!(true))
    );
    let rest = read(&server, "/console/responses?after=resp_2", USER).await;
    assert_eq!(ids(&rest), ["resp_1"]);
    let path = "/console/responses";
    assert_eq!(status(&get(&server, path, "host: h\r\n").await), 401);
    assert_eq!(status(&get(&server, path, &bearer(ADMIN)).await), 403);
}

#[tokio::test]
async fn a_server_without_console_has_none_of_its_routes() {
    let options = ServerOptions {
        live: None,
        ..with_keys()
    };
    let server = TestServer::with(options, Policy::default()).await;
    for path in [
        "/console",
        "/console/main.js",
        "/admin/live",
        "/admin/server",
    ] {
        let answer = get(&server, path, &bearer(ADMIN)).await;
        assert_eq!(status(&answer), 404, "{path}");
        assert!(body(&answer).contains("no console"), "{answer}");
    }
}
