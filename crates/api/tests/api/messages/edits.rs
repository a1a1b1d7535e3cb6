//! `context_management`: what is removed from the conversation, and what the answer reports.

use std::sync::Arc;

use http::Method;
use loggia_api::Policy;
use serde_json::{Value, json};

use super::stand_in::{StandIn, hi, message, send};

/// A conversation with two results and reasoning, and these edits.
fn conversation(edits: &Value) -> Value {
    let call =
        |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"path": "a"}});
    let result = |id: &str| {
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": format!("A long result of {id}. {}", "More. ".repeat(20))}]})
    };
    let thought = json!({"type": "thinking", "thinking": "Let me see.", "signature": ""});
    let messages = json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [thought, call("1")]},
        result("1"),
        {"role": "assistant", "content": [call("2")]},
        result("2"),
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "d"}]},
        {"role": "user", "content": "e"}
    ]);
    hi(json!({"messages": messages, "context_management": { "edits": edits }}))
}

/// Returns the tokens that the stand-in counts for this request.
async fn counted(body: &Value) -> Value {
    let engine = Arc::new(StandIn::hello());
    let path = "/v1/messages/count_tokens";
    let policy = Policy::default();
    let answer = send(&engine, policy, Method::POST, path, &[], body.to_string()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn results_of_earlier_calls_are_removed_once_the_prompt_is_long() {
    let edit = |tokens: u64| {
        json!([{"type": "clear_tool_uses_20250919", "clear_tool_inputs": true,
            "trigger": {"type": "input_tokens", "value": tokens},
            "keep": {"type": "tool_uses", "value": 1}}])
    };
    let whole = counted(&conversation(&json!([]))).await["input_tokens"]
        .as_u64()
        .expect("a number");
    let (_, engine) = message(StandIn::hello(), &conversation(&edit(whole))).await;
    let before = engine.asked()["messages"].clone();
    assert!(
        before[2]["content"]
            .to_string()
            .contains("A long result of 1.")
    );

    let (message, engine) = message(StandIn::hello(), &conversation(&edit(whole - 1))).await;
    let after = engine.asked()["messages"].clone();
    assert_eq!(
        after[2]["content"],
        "[The result of this call was removed.]"
    );
    assert_eq!(after[1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(after[4], before[4], "the last result is kept");

    let counts = counted(&conversation(&edit(whole - 1))).await;
    let left = counts["input_tokens"].as_u64().expect("a number");
    assert_eq!(counts["context_management"]["original_input_tokens"], whole);
    let applied = json!([{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 1,
        "cleared_input_tokens": whole - left}]);
    assert_eq!(message["context_management"]["applied_edits"], applied);
}

#[tokio::test]
async fn reasoning_of_earlier_turns_is_removed() {
    let edit = json!([{"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}}]);
    let (message, engine) = message(StandIn::hello(), &conversation(&edit)).await;
    let chat = engine.asked();
    assert_eq!(chat["messages"][1].get("reasoning_content"), None);
    assert_eq!(chat["messages"][7]["reasoning_content"], "Let me see.");
    let applied = &message["context_management"]["applied_edits"];
    assert_eq!(applied[0]["type"], "clear_thinking_20251015");
    assert_eq!(applied[0]["cleared_thinking_turns"], 1);
    assert!(applied[0]["cleared_input_tokens"].is_u64(), "{applied}");
}

#[tokio::test]
async fn an_edit_that_would_remove_too_little_is_not_applied() {
    let edit = json!([{"type": "clear_tool_uses_20250919",
        "trigger": {"type": "tool_uses", "value": 1}, "keep": {"type": "tool_uses", "value": 0},
        "clear_at_least": {"type": "input_tokens", "value": 1_000_000}}]);
    let (message, engine) = message(StandIn::hello(), &conversation(&edit)).await;
    let chat = engine.asked();
    let text = chat["messages"][2]["content"].as_str().expect("a text");
    assert!(text.starts_with("A long result of 1."), "{text}");
    assert_eq!(message["context_management"], json!({"applied_edits": []}));
}

#[tokio::test]
async fn what_is_no_list_of_edits_is_listed() {
    for (management, is_listed) in [
        (json!("later"), true),
        (json!([]), true),
        (json!({"edits": 1}), true),
        (json!({"edits": null}), false),
        (json!({}), false),
        (Value::Null, false),
    ] {
        let asked = hi(json!({"context_management": management}));
        let answer = send(
            &Arc::new(StandIn::hello()),
            Policy::default(),
            Method::POST,
            "/v1/messages",
            &[],
            asked.to_string(),
        )
        .await;
        assert_eq!(answer.status(), 200, "{asked}");
        let listed = answer.header("x-loggia-ignored").unwrap_or_default();
        assert_eq!(listed.contains("context_management"), is_listed, "{asked}");
    }
}
