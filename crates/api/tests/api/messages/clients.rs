//! Requests in the forms in which real clients were seen to send them: none may be an error.

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
