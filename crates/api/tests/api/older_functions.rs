//! The older form of tools: `functions`, `function_call`, and results that have the name of their
//! function but no id.

use crate::support::{Scripted, chat, hello, recording, strict};
use serde_json::{Value, json};

#[tokio::test]
async fn a_result_keeps_the_name_of_its_function_whatever_was_called_before_it() {
    let (status, show) = recording("server/show-tools");
    let call = |name: &str| json!({"role": "assistant", "content": null, "function_call": {"name": name, "arguments": "{}"}});
    let result = |name: &str| json!({"role": "function", "name": name, "content": "42"});
    let user = json!({"role": "user", "content": "x"});
    for (messages, of_a_call, name) in [
        (json!([user, call("f"), result("f")]), true, "f"),
        (json!([user, call("f"), result("g")]), false, "g"),
        (
            json!([user, call("f"), result("f"), call("g"), result("g")]),
            true,
            "g",
        ),
        (json!([result("f"), user]), false, "f"),
        (
            json!([user, call("f"), result("f"), result("g")]),
            false,
            "g",
        ),
    ] {
        let inner = Scripted::default()
            .on("/api/show", status, [show.clone()])
            .recorded("chat/whole");
        let answer = chat(&inner, strict(), hello(json!({"messages": messages}))).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let sent = inner.last_chat()["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let result = sent
            .iter()
            .rfind(|message| message["role"] == "tool")
            .expect("a result");
        assert_eq!(
            (&result["tool_name"], &result["content"]),
            (&json!(name), &json!("42")),
            "{messages}"
        );
        let calls = sent
            .iter()
            .filter_map(|message| message["tool_calls"].get(0));
        let answered: Vec<&Value> = calls
            .filter(|call| call["id"] == result["tool_call_id"])
            .collect();
        let names: Vec<&Value> = answered
            .iter()
            .map(|call| &call["function"]["name"])
            .collect();
        assert_eq!(
            names,
            if of_a_call { vec![name] } else { vec![] },
            "{messages}"
        );
    }
}

#[tokio::test]
async fn a_model_that_is_told_of_functions_reads_whose_result_it_is() {
    let (status, show) = recording("server/show");
    let inner = Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole");
    let messages = json!([{"role": "function", "name": "f", "content": "42"}, {"role": "user", "content": "So?"}]);
    let fields = json!({"messages": messages, "functions": [{"name": "f"}]});
    assert_eq!(chat(&inner, strict(), hello(fields)).await.status(), 200);
    let sent = inner.last_chat()["messages"].clone();
    assert!(
        sent.as_array()
            .is_some_and(|all| all.iter().any(|one| one["content"] == "Result of f:\n42")),
        "{sent}"
    );
}

#[tokio::test]
async fn who_offers_tools_is_answered_so_whatever_the_form_of_the_calls_before() {
    let (status, show) = recording("server/show-tools");
    let inner = Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole-tool-call");
    let messages = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "function_call": {"name": "get_weather", "arguments": "{}"}},
        {"role": "function", "name": "get_weather", "content": "42"},
        {"role": "user", "content": "And in Paris?"}]);
    let function = json!({"name": "get_weather"});
    let newer =
        json!({"messages": messages, "tools": [{"type": "function", "function": function}]});
    let older = json!({"messages": messages, "functions": [function]});
    for (fields, call, reason) in [
        (newer, "/tool_calls/0/function/name", "tool_calls"),
        (older, "/function_call/name", "function_call"),
    ] {
        let choice = chat(&inner, strict(), hello(fields)).await.json()["choices"][0].clone();
        assert_eq!(
            choice["message"].pointer(call),
            Some(&json!("get_weather")),
            "{choice}"
        );
        assert_eq!(choice["finish_reason"], reason);
    }
}
