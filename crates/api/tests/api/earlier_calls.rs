//! Earlier tool calls as clients send them back: cut off, empty, or encoded twice. The backend is
//! Ollama, which accepts only objects as arguments.

use loggia_api::Policy;
use serde_json::{Value, json};

use crate::support::{Scripted, chat, hello, plain_model, recording, strict};

/// A model that supports tools.
fn with_tools() -> Scripted {
    let (status, show) = recording("server/show-tools");
    Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
fn newer(arguments: Value) -> Value {
    let call =
        json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
    json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}])
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
fn older(arguments: Value) -> Value {
    let called = json!({"name": "f", "arguments": arguments});
    json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": null, "function_call": called}, {"role": "function", "name": "f", "content": "x"}])
}

const CHANGED: &str = "messages[].tool_calls[].function.arguments: completed to a JSON object";

#[tokio::test]
async fn arguments_that_are_no_object_are_made_one_and_the_answer_says_so() {
    let cut = "{\"path\": \"a.txt\", \"text\": \"Once upon";
    for (arguments, object, changed) in [
        (json!("{\"x\":1}"), json!({"x": 1}), None),
        (json!(""), json!({}), None),
        (json!("  "), json!({}), None),
        (json!("null"), json!({}), None),
        (json!(null), json!({}), None),
        (json!({"x": 1}), json!({"x": 1}), None),
        (
            json!(cut),
            json!({"path": "a.txt", "text": "Once upon"}),
            Some(CHANGED),
        ),
        (json!("[1]"), json!({"arguments": [1]}), Some(CHANGED)),
        (json!("Paris"), json!({"arguments": "Paris"}), Some(CHANGED)),
        (json!("\"{\\\"x\\\": 1}\""), json!({"x": 1}), Some(CHANGED)),
    ] {
        for messages in [newer(arguments.clone()), older(arguments.clone())] {
            for fields in [
                json!({"messages": messages}),
                json!({"messages": messages, "stream": true}),
            ] {
                let inner = with_tools();
                let answer = chat(&inner, Policy::default(), hello(fields)).await;
                assert_eq!(
                    (answer.status(), answer.header("x-loggia-changed")),
                    (200, changed),
                    "{arguments}"
                );
                let sent =
                    &inner.last_chat()["messages"][1]["tool_calls"][0]["function"]["arguments"];
                assert_eq!(sent, &object, "{arguments}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_without_arguments_at_all_has_none() {
    let mut messages = newer(json!(""));
    messages[1]["tool_calls"][0]["function"] = json!({"name": "f"});
    let inner = with_tools();
    assert_eq!(
        chat(
            &inner,
            Policy::default(),
            hello(json!({"messages": messages}))
        )
        .await
        .status(),
        200
    );
    assert_eq!(
        inner.last_chat()["messages"][1]["tool_calls"][0]["function"]["arguments"],
        json!({})
    );
}

#[tokio::test]
async fn numbers_reach_ollama_with_all_their_digits() {
    let arguments = "{\"id\":25227143063332189585438,\"x\":0.1234567890123456789,\"y\":1e400}";
    for messages in [newer(json!(arguments)), older(json!(arguments))] {
        let inner = with_tools();
        chat(
            &inner,
            Policy::default(),
            hello(json!({"messages": messages})),
        )
        .await;
        assert!(
            last_body(&inner).contains(arguments),
            "{}",
            last_body(&inner)
        );
    }
    // The arguments are not a string, and too long for `json!`.
    let body = hello(json!({"messages": newer(json!("ARGUMENTS"))}))
        .to_string()
        .replace("\"ARGUMENTS\"", arguments);
    let inner = with_tools();
    let service = crate::support::layered(&inner, Policy::default());
    let as_object =
        crate::support::send(&service, crate::support::post("/v1/chat/completions", body)).await;
    assert_eq!(as_object.status(), 200);
    assert!(
        last_body(&inner).contains(arguments),
        "{}",
        last_body(&inner)
    );
}

fn last_body(inner: &Scripted) -> String {
    let seen = inner.seen.lock().expect("no panic");
    let (_, body) = seen
        .iter()
        .rfind(|(head, _)| head.uri().path() == "/api/chat")
        .expect("a chat");
    String::from_utf8_lossy(body).into_owned()
}

#[tokio::test]
async fn a_model_that_knows_no_tools_is_shown_arguments_that_are_an_object() {
    let inner = plain_model();
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"messages": newer(json!("{\"x\": 1"))})),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-changed")),
        (200, Some(CHANGED))
    );
    let shown = &inner.last_chat()["messages"][1]["content"];
    assert_eq!(
        shown,
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>"
    );
}

#[tokio::test]
async fn strict_refuses_arguments_that_are_no_object_at_their_place() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (param, fields) in [
        (
            "messages[1].tool_calls[0].function.arguments",
            json!({"messages": newer(json!("[]"))}),
        ),
        (
            "messages[1].tool_calls[0].function.arguments",
            json!({"messages": newer(json!("{")), "tools": tools, "tool_choice": "required"}),
        ),
        (
            "messages[1].function_call.arguments",
            json!({"messages": older(json!("{")), "functions": [{"name": "f"}], "function_call": {"name": "f"}}),
        ),
    ] {
        let error = chat(&with_tools(), strict(), hello(fields)).await.json()["error"].clone();
        assert_eq!(
            (&error["param"], &error["code"]),
            (&json!(param), &json!("invalid_value")),
            "{error}"
        );
    }
    for nothing in ["", "null", "{}"] {
        let answer = chat(
            &with_tools(),
            strict(),
            hello(json!({"messages": newer(json!(nothing))})),
        )
        .await;
        assert_eq!(answer.status(), 200, "{nothing:?}");
    }
}

#[tokio::test]
async fn arguments_where_no_call_can_be_are_named_and_asked_of_nobody() {
    let misplaced =
        json!([{"role": "user", "content": "x", "function_call": {"name": "f", "arguments": "{"}}]);
    let answer = chat(
        &with_tools(),
        Policy::default(),
        hello(json!({"messages": misplaced})),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("messages[].function_call"))
    );
    assert_eq!(answer.header("x-loggia-changed"), None);
}

#[tokio::test]
async fn ollama_is_told_a_description_and_parameters_of_every_function() {
    let whole = json!({"name": "g", "description": "G.", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}});
    let none = json!({"type": "object", "properties": {}});
    for (function, parameters) in [
        (json!({"name": "f"}), none.clone()),
        (
            json!({"name": "f", "description": null, "parameters": null}),
            none.clone(),
        ),
        (json!({"name": "f", "parameters": {}}), none.clone()),
        (json!({"name": "f", "parameters": {"type": "object"}}), none),
        (
            json!({"name": "f", "parameters": {"properties": {"x": {}}}}),
            json!({"properties": {"x": {}}, "type": "object"}),
        ),
    ] {
        let tools = json!([{"type": "function", "function": function}, {"type": "function", "function": whole}]);
        let inner = with_tools();
        assert_eq!(
            chat(&inner, Policy::default(), hello(json!({"tools": tools})))
                .await
                .status(),
            200
        );
        let sent = inner.last_chat()["tools"].clone();
        assert_eq!(
            sent[0]["function"],
            json!({"name": "f", "description": "", "parameters": parameters})
        );
        assert_eq!(sent[1]["function"], whole);
    }
}

#[tokio::test]
async fn a_conversation_that_ollamas_template_refuses_is_asked_again_in_a_plainer_form() {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = json!([
        message("system", "S"),
        message("user", "a"),
        message("assistant", "b"),
        message("system", "T"),
        message("user", "c")
    ]);
    for refusal in [
        "Jinja Exception: System message must be at the beginning.",
        "template: :3:5: executing \"\" at <.X>: error calling raise",
    ] {
        for status in [400, 500] {
            let error = json!({"error": refusal}).to_string();
            let inner = with_tools().first("/api/chat", status, [error]);
            let answer = chat(
                &inner,
                Policy::default(),
                hello(json!({"messages": messages})),
            )
            .await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(
                answer.header("x-loggia-changed"),
                Some("messages: later system messages moved to the first")
            );
            let moved = json!([
                message("system", "S\n\nT"),
                message("user", "a"),
                message("assistant", "b"),
                message("user", "c")
            ]);
            assert_eq!(
                (inner.chats().len(), &inner.last_chat()["messages"]),
                (2, &moved)
            );
        }
    }
    let inner = with_tools().first(
        "/api/chat",
        500,
        [json!({"error": "out of memory"}).to_string()],
    );
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"messages": messages})),
    )
    .await;
    assert_eq!(
        (answer.status(), inner.chats().len()),
        (500, 1),
        "another error is no reason to ask again"
    );
}
