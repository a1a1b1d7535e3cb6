//! Requests in the forms that real clients send: none may be an error.

use std::sync::Arc;

use loggia_api::Policy;
use serde_json::Value;

use super::stand_in::{KINDS, StandIn, message, send};

const SHAPES: &str = include_str!("../../../../../fixtures/messages/shapes.json");

#[tokio::test]
async fn every_shape_that_a_client_was_seen_to_send_is_answered_by_every_kind_of_engine() {
    let shapes: Vec<Value> = serde_json::from_str(SHAPES).expect("JSON");
    assert!(shapes.len() >= 10);
    for shape in &shapes {
        let client = &shape["client"];
        for kind in KINDS {
            let (_, engine) = message(StandIn::hello().of(kind), &shape["request"]).await;
            let chat = engine.asked();
            let roles: Vec<&str> = chat["messages"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|message| message["role"].as_str().expect("a role"))
                .collect();
            assert_eq!(roles.join(" "), shape["roles"], "{client} by {kind:?}");
            let tools = chat["tools"].as_array().map_or(0, Vec::len);
            assert_eq!(tools as u64, shape["tools"], "{client} by {kind:?}");
        }
    }
}

#[tokio::test]
async fn the_tokens_of_a_prompt_are_counted_without_a_limit_of_the_answer() {
    let mut body = super::stand_in::hi(serde_json::json!({"system": "Be brief."}));
    body.as_object_mut()
        .expect("an object")
        .remove("max_tokens");
    let counted = |body: Value| async move {
        let engine = Arc::new(StandIn::hello());
        let path = "/v1/messages/count_tokens?beta=true";
        let post = http::Method::POST;
        let policy = Policy::default();
        let answer = send(&engine, policy, post, path, &[], body.to_string()).await;
        (answer.status(), answer.json())
    };
    // Claude Code asks twelve at once.
    let all = futures_util::future::join_all((0..12).map(|_| counted(body.clone()))).await;
    for answer in all {
        assert_eq!(answer.0, 200);
        assert!(answer.1["input_tokens"].is_u64(), "{}", answer.1);
    }
    let (_, plain) = counted(body.clone()).await;
    body["compaction"] = serde_json::json!({"type": "summarize"});
    assert_eq!(counted(body.clone()).await, (200, plain), "it is ignored");
    body["messages"] = serde_json::json!([]);
    let (status, error) = counted(body).await;
    assert_eq!(status, 400);
    assert_eq!(error["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn any_beta_and_any_version_change_nothing() {
    let body = super::stand_in::hi(serde_json::json!({})).to_string();
    for headers in [
        &[][..],
        &[("anthropic-version", "1999-01-01")],
        &[(
            "anthropic-beta",
            "holograms-2031-01-01,interleaved-thinking-2025-05-14",
        )],
        &[("x-api-key", "x"), ("authorization", "Bearer y")],
    ] {
        let engine = Arc::new(StandIn::hello());
        let post = http::Method::POST;
        let policy = Policy::default();
        let answer = send(&engine, policy, post, "/v1/messages", headers, body.clone()).await;
        assert_eq!(answer.status(), 200, "{headers:?}");
        assert_eq!(answer.header("x-loggia-ignored"), None, "{headers:?}");
        let assumed = answer.header("x-loggia-assumed");
        let has_version = headers.iter().any(|(name, _)| *name == "anthropic-version");
        assert_eq!(assumed.is_none(), has_version, "{headers:?}");
    }
}
