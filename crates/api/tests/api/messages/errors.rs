//! Errors, and the routes that both APIs have, in the form of the API that the client speaks.

use std::sync::Arc;

use http::Method;
use loggia_api::Policy;
use serde_json::{Value, json};

use super::stand_in::{StandIn, error_of, hi, send};
use crate::support::Answer;

async fn asked(method: Method, path: &str, versioned: bool, body: &str) -> Answer {
    let headers = [("anthropic-version", "2026-10-21")];
    let headers = if versioned { &headers[..] } else { &[] };
    let engine = Arc::new(StandIn::hello());
    let policy = Policy {
        body_limit: 1000,
        ..Policy::default()
    };
    send(&engine, policy, method, path, headers, body.to_owned()).await
}

#[tokio::test]
async fn errors_have_anthropics_form_by_the_path_or_by_the_version() {
    for (method, path, versioned, status, kind) in [
        (
            Method::POST,
            "/v1/messages",
            false,
            400,
            "invalid_request_error",
        ),
        (
            Method::GET,
            "/v1/messages",
            false,
            405,
            "invalid_request_error",
        ),
        (
            Method::GET,
            "/v1/messages/batches",
            false,
            404,
            "not_found_error",
        ),
        (Method::GET, "/v1/nothing", true, 404, "not_found_error"),
        (
            Method::POST,
            "/v1/models",
            true,
            405,
            "invalid_request_error",
        ),
        (Method::GET, "/v1/models/none", true, 404, "not_found_error"),
    ] {
        let answer = asked(method.clone(), path, versioned, "{").await;
        let (is, error, _) = error_of(&answer);
        assert_eq!((is, error.as_str()), (status, kind), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
    // A path of Anthropic's API without the header `anthropic-version`, and a path of OpenAI's API
    // with it.
    for (method, path, versioned) in [
        (Method::GET, "/v1/nothing", false),
        (Method::POST, "/v1/chat/completions", true),
        (Method::POST, "/v1/responses", true),
    ] {
        let answer = asked(method, path, versioned, "{").await;
        assert_eq!(answer.json()["type"], Value::Null, "{path}");
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
        assert_eq!(answer.header("request-id"), None);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_a_413_of_its_own_type() {
    let text = "x".repeat(2000);
    let body = hi(json!({ "system": text })).to_string();
    let (status, kind, _) = error_of(&asked(Method::POST, "/v1/messages", false, &body).await);
    assert_eq!((status, kind.as_str()), (413, "request_too_large"));
}

#[tokio::test]
async fn a_json_body_that_is_broken_is_a_400() {
    for body in ["", "{", "[]", "\u{feff}{}", "{\"model\": \"m\"}", "null"] {
        let (status, kind, _) = error_of(&asked(Method::POST, "/v1/messages", false, body).await);
        assert_eq!(
            (status, kind.as_str()),
            (400, "invalid_request_error"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn claude_code_finds_that_the_server_is_there() {
    for method in [Method::HEAD, Method::GET] {
        let answer = asked(method, "/api/hello", false, "").await;
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn models_have_the_form_of_the_api_that_the_client_speaks() {
    let page = asked(Method::GET, "/v1/models", true, "").await.json();
    let model = json!({"id": "m", "type": "model", "display_name": "m",
        "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active", "max_input_tokens": null,
        "max_tokens": null, "capabilities": null});
    assert_eq!(
        page,
        json!({"data": [model], "has_more": false, "first_id": "m", "last_id": "m"})
    );
    let list = asked(Method::GET, "/v1/models", false, "").await.json();
    let model = json!({"id": "m", "object": "model", "created": 0, "owned_by": "stand-in"});
    assert_eq!(list, json!({"object": "list", "data": [model]}));
    let page = asked(Method::GET, "/v1/models?after_id=gone", true, "").await;
    assert_eq!(
        page.json(),
        json!({"data": [], "has_more": false, "first_id": null, "last_id": null})
    );
    let (status, kind, text) = error_of(&asked(Method::GET, "/v1/models?limit=x", true, "").await);
    assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
    assert!(text.contains("limit"), "{text}");
}
