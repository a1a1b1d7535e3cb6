//! Unusual requests, of real clients and made up: each is refused with the field's name, or the
//! field is listed as ignored.

use loggia_api::Policy;
use serde_json::{Value, json};

use crate::support::{Scripted, chat, hello};

fn model() -> Scripted {
    let show = json!({"capabilities": ["completion", "tools", "vision", "thinking"], "model_info": {}, "details": {}});
    Scripted::default()
        .on("/api/show", 200, [show.to_string()])
        .recorded("chat/whole")
}

/// Returns `param` and `code` of the 400 for a request with these fields.
async fn refused(fields: Value) -> (String, String) {
    let answer = chat(&model(), Policy::default(), hello(fields.clone())).await;
    assert_eq!(answer.status(), 400, "{fields}: {}", answer.text());
    let error = &answer.json()["error"];
    let text = |key: &str| error[key].as_str().unwrap_or("null").to_owned();
    (text("param"), text("code"))
}

async fn refuses(cases: &[(Value, &str, &str)]) {
    for (fields, param, code) in cases {
        assert_eq!(
            refused(fields.clone()).await,
            ((*param).to_owned(), (*code).to_owned()),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn a_word_that_is_no_string_is_of_the_wrong_type_and_not_broken_json() {
    refuses(&[
        (
            json!({"messages": [{"role": null, "content": "x"}]}),
            "messages[0].role",
            "invalid_type",
        ),
        (
            json!({"messages": [{"role": 1, "content": "x"}]}),
            "messages[0].role",
            "invalid_type",
        ),
        (
            json!({"response_format": {"type": 1}}),
            "response_format.type",
            "invalid_type",
        ),
        (
            json!({"response_format": {"type": "yaml"}}),
            "response_format.type",
            "invalid_value",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}),
            "messages[0].content[0].type",
            "invalid_value",
        ),
    ])
    .await;
}

#[tokio::test]
async fn tool_choice_is_read_with_the_place_of_what_is_wrong() {
    let with = |choice: Value| json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": choice});
    let allowed = |mode: &str, name: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [{"type": "function", "function": {"name": name}}]}});
    refuses(&[
        (with(json!("any")), "tool_choice", "invalid_value"),
        (with(json!(5)), "tool_choice", "invalid_type"),
        (with(json!({})), "tool_choice.type", "missing_required_parameter"),
        (with(json!({"type": "banana"})), "tool_choice.type", "invalid_value"),
        (with(json!({"type": "function"})), "tool_choice.function", "missing_required_parameter"),
        (with(json!({"type": "function", "function": {}})), "tool_choice.function.name", "missing_required_parameter"),
        (with(json!({"type": "function", "function": {"name": "g"}})), "tool_choice", "invalid_value"),
        (
            with(json!({"type": "function", "function": {"name": "f"}, "odd": 1})),
            "tool_choice.odd",
            "unknown_parameter",
        ),
        (
            with(json!({"type": "function", "function": {"name": "f", "odd": 1}})),
            "tool_choice.function.odd",
            "unknown_parameter",
        ),
        (
            with(json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [], "odd": 1}})),
            "tool_choice.allowed_tools.odd",
            "unknown_parameter",
        ),
        (
            with(json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
                "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f", "odd": 1}}]}})),
            "tool_choice.allowed_tools.tools[1].function.odd",
            "unknown_parameter",
        ),
        (with(allowed("never", "f")), "tool_choice.allowed_tools.mode", "invalid_value"),
        (with(allowed("auto", "g")), "tool_choice", "invalid_value"),
    ])
    .await;
}

#[tokio::test]
async fn function_call_is_a_word_or_one_of_the_functions() {
    let with = |call: Value| json!({"functions": [{"name": "f"}], "function_call": call});
    refuses(&[
        (
            json!({"function_call": {"name": "f"}}),
            "function_call",
            "invalid_value",
        ),
        (with(json!("required")), "function_call", "invalid_value"),
        (with(json!(true)), "function_call", "invalid_value"),
        (with(json!({})), "function_call", "invalid_value"),
        (with(json!({"name": "g"})), "function_call", "invalid_value"),
    ])
    .await;
}

#[tokio::test]
async fn names_and_schemas_are_what_they_must_be() {
    let tool = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    let format =
        |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": schema}});
    refuses(&[
        (
            tool(json!({"name": ""})),
            "tools[0].function.name",
            "empty_string",
        ),
        (
            tool(json!({"name": "a b"})),
            "tools[0].function.name",
            "invalid_value",
        ),
        (
            tool(json!({"name": "a".repeat(65)})),
            "tools[0].function.name",
            "string_above_max_length",
        ),
        (
            tool(json!({"name": "f", "parameters": "x"})),
            "tools[0].function.parameters",
            "invalid_type",
        ),
        (
            json!({"functions": [{"name": "f", "parameters": []}]}),
            "functions[0].parameters",
            "invalid_type",
        ),
        (
            format(json!({"name": "a!"})),
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            format(json!({"name": "a", "schema": "json"})),
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        (
            format(json!({"name": "a", "schema": true})),
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        (
            json!({"response_format": {"type": "text", "odd": 1}}),
            "response_format.odd",
            "unknown_parameter",
        ),
    ])
    .await;
}

#[tokio::test]
async fn ollamas_own_fields_of_a_wrong_type_are_refused() {
    refuses(&[
        (json!({"options": 5}), "options", "invalid_type"),
        (json!({"options": "num_ctx 5"}), "options", "invalid_type"),
        (json!({"think": 1}), "think", "invalid_type"),
        (json!({"think": {"level": "low"}}), "think", "invalid_type"),
        (json!({"keep_alive": {}}), "keep_alive", "invalid_type"),
        (json!({"num_ctx": "x"}), "num_ctx", "invalid_type"),
        (json!({"top_k": true}), "top_k", "invalid_type"),
    ])
    .await;
}

#[tokio::test]
async fn an_empty_stop_string_asks_for_nothing() {
    let inner = model();
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"stop": ["", "END"]})),
    )
    .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(inner.last_chat()["options"]["stop"], json!(["END"]));
    chat(&inner, Policy::default(), hello(json!({"stop": ""}))).await;
    assert_eq!(inner.last_chat()["options"].get("stop"), None);
}

#[tokio::test]
async fn what_only_another_role_has_is_taken_out_and_named() {
    let inner = model();
    let call =
        json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let user = json!({"role": "user", "content": "x", "refusal": "no", "reasoning": "hm", "tool_calls": call, "tool_call_id": "c"});
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"messages": [user]})),
    )
    .await;
    let named =
        "messages[].reasoning, messages[].refusal, messages[].tool_call_id, messages[].tool_calls";
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some(named)),
        "{}",
        answer.text()
    );
    assert_eq!(
        inner.last_chat()["messages"],
        json!([{"role": "user", "content": "x"}])
    );
}

#[tokio::test]
async fn unknown_fields_are_named_however_deep_they_are() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "format": "image/png"}});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "parsed": null}});
    let messages = json!([
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x"}]);
    let functions = json!([{"name": "g", "returns": "int"}]);
    let answer = chat(
        &model(),
        Policy::default(),
        hello(json!({"messages": messages, "functions": functions})),
    )
    .await;
    let named = "functions[].returns, messages[].content[].image_url.format, messages[].tool_calls[].function.parsed";
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some(named)),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn names_that_fit_into_no_header_are_named_all_the_same() {
    let answer = chat(
        &model(),
        Policy::default(),
        hello(json!({"a\nb": 1, "user": "u"})),
    )
    .await;
    assert_eq!(answer.header("x-loggia-ignored"), Some("user, a%0Ab"));
    let many: Value = (0..5000)
        .map(|index| (format!("field{index}"), json!(index)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let answer = chat(&model(), Policy::default(), hello(many)).await;
    let named = answer.header("x-loggia-ignored").unwrap_or_default();
    assert!(named.len() < 4096 && named.ends_with(" more)"), "{named}");
}

#[tokio::test]
async fn an_error_does_not_repeat_a_long_name() {
    let answer = chat(
        &model(),
        Policy::default(),
        hello(json!({"temperature": "x".repeat(1 << 20)})),
    )
    .await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().len() < 8192);
}

#[tokio::test]
async fn a_wrong_type_is_told_in_jsons_words() {
    for (fields, expected) in [
        (json!({"max_tokens": "many"}), "expected an integer."),
        (
            json!({"seed": 9_223_372_036_854_775_808_u64}),
            "expected an integer of 64 bits.",
        ),
        (json!({"temperature": "hot"}), "expected a number."),
        (json!({"messages": "x"}), "expected an array."),
        (json!({"metadata": 1}), "expected an object."),
    ] {
        let message = chat(&model(), Policy::default(), hello(fields))
            .await
            .json()["error"]["message"]
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
}
