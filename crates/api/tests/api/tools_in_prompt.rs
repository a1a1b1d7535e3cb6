//! Tools for a model that does not support them, over Ollama: the prompt describes the tools.

use crate::support::{Scripted, chat, hello, recording};
use loggia_api::Policy;
use serde_json::json;

#[tokio::test]
async fn a_model_of_ollamas_that_knows_no_tools_is_told_of_them_and_its_calls_are_read_from_its_text()
 {
    let (status, show) = recording("server/show");
    let end = r#"{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":9}"#;
    let said = [
        "I look. <tool",
        "_call>{\"name\": \"f\", \"argu",
        "ments\": {\"x\":1}}</tool_call>",
    ];
    let lines =
        said.map(|text| json!({"message": {"content": text}, "done": false}).to_string() + "\n");
    let inner = Scripted::default().on("/api/show", status, [show]).on(
        "/api/chat",
        200,
        lines.into_iter().chain([end.to_owned()]),
    );
    let messages = json!([
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":0}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "nothing"},
        {"role": "user", "content": "Again."}
    ]);
    let fields = json!({"messages": messages, "stream": true, "tools": [{"type": "function", "function": {"name": "f"}}]});
    let chunks = chat(&inner, Policy::default(), hello(fields))
        .await
        .chunks();
    let sent = inner.last_chat();
    assert_eq!(
        (
            sent.get("tools"),
            sent.get("format"),
            &sent["messages"][0]["role"]
        ),
        (None, None, &json!("system"))
    );
    assert_eq!(
        sent["messages"][2]["content"],
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\":0}}</tool_call>"
    );
    assert_eq!(
        (
            &sent["messages"][3]["role"],
            &sent["messages"][3]["content"]
        ),
        (&json!("user"), &json!("Result of f:\nnothing"))
    );
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "I look. ");
    let call = chunks
        .iter()
        .find_map(|chunk| chunk["choices"][0]["delta"].get("tool_calls"))
        .unwrap();
    assert_eq!(
        (
            &call[0]["function"]["name"],
            &call[0]["function"]["arguments"]
        ),
        (&json!("f"), &json!("{\"x\":1}"))
    );
    assert!(
        chunks
            .iter()
            .any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"),
        "{chunks:?}"
    );
}
