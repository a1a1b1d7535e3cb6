//! Custom tools of chats: text in, text out, with every kind of engine.

use std::sync::Arc;

use loggia_api::{Policy, Strictness};
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use crate::responses::stand_in::{KINDS, Kind, StandIn, ask_at, call};
use crate::support::Answer;

const PATH: &str = "/v1/chat/completions";

/// A chat with the custom tool `run`, with more fields in it, and the function `add`.
fn chat(more: &Value) -> Value {
    let mut custom = json!({"name": "run", "description": "Runs a command."});
    let fields = custom.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    let add =
        json!({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}});
    json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "custom", "custom": custom}, add]})
}

async fn ask(engine: StandIn, body: &Value) -> (Answer, Arc<StandIn>) {
    let engine = Arc::new(engine);
    let answer = ask_at(PATH, &engine, Policy::default(), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    (answer, engine)
}

/// The deltas of the first choice of a stream that have calls, and its finish reason.
fn streamed(text: &str) -> (Vec<Value>, Value) {
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.filter(|data| *data != "[DONE]");
    let (mut calls, mut reason) = (Vec::new(), Value::Null);
    for event in events {
        let event: Value = serde_json::from_str(event).expect("JSON");
        let choice = &event["choices"][0];
        let more = choice["delta"]["tool_calls"].as_array();
        calls.extend(more.cloned().unwrap_or_default());
        if choice["finish_reason"].is_string() {
            reason = choice["finish_reason"].clone();
        }
    }
    (calls, reason)
}

#[tokio::test]
async fn a_custom_tool_of_a_chat_is_called_with_text_by_every_engine() {
    let mut pieces = call(0, "call_1", "run", &["{\"input\":\"ls", " -l\\n\"}"]);
    pieces.extend(call(1, "call_2", "add", &["{\"a\":1}"]));
    let custom =
        json!({"id": "call_1", "type": "custom", "custom": {"name": "run", "input": "ls -l\n"}});
    let add = json!({"id": "call_2", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}});
    for kind in KINDS {
        let engine = || StandIn::says(&pieces, FinishReason::ToolCalls).of(kind);
        let (answer, engine_asked) = ask(engine(), &chat(&json!({}))).await;
        assert_eq!(answer.header("x-loggia-ignored"), None);
        let choice = &answer.json()["choices"][0];
        assert_eq!(choice["message"]["tool_calls"], json!([custom, add]));
        assert_eq!(choice["finish_reason"], "tool_calls");
        let asked = engine_asked.asked();
        let function = &asked["tools"][0]["function"];
        assert_eq!(
            (&function["name"], &function["description"]),
            (&json!("run"), &json!("Runs a command."))
        );
        assert_eq!(function["parameters"]["required"], json!(["input"]));

        let mut body = chat(&json!({}));
        body["stream"] = json!(true);
        let (answer, _) = ask(engine(), &body).await;
        let (calls, reason) = streamed(answer.text());
        let mut first = custom.clone();
        first["index"] = json!(0);
        assert_eq!(calls[0], first);
        assert_eq!(calls[1]["function"]["name"], "add");
        assert_eq!(reason, "tool_calls");
        assert!(answer.text().ends_with("data: [DONE]\n\n"));
        let roles = answer.text().matches("\"role\":\"assistant\"").count();
        assert_eq!(roles, 1, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_choice_of_a_custom_tool_is_one_of_its_function() {
    let calls = call(0, "call_1", "run", &["{\"input\":\"ls\"}"]);
    let run = json!({"type": "custom", "custom": {"name": "run"}});
    for choice in [
        run.clone(),
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [run]}}),
    ] {
        let mut body = chat(&json!({}));
        body["tool_choice"] = choice;
        let (answer, engine) = ask(StandIn::says(&calls, FinishReason::ToolCalls), &body).await;
        let called = &answer.json()["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(called["custom"]["input"], "ls");
        let asked = engine.asked()["tool_choice"].to_string();
        assert!(asked.contains("\"function\":{\"name\":\"run\"}"), "{asked}");
    }
    let mut body = chat(&json!({}));
    body["tool_choice"] = json!({"type": "custom", "custom": {"name": "other"}});
    let engine = Arc::new(StandIn::hello());
    let answer = ask_at(PATH, &engine, Policy::default(), &body).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json()["error"]["param"], "tool_choice");
}

#[tokio::test]
async fn an_engine_without_forced_calls_is_made_to_call_a_custom_tool() {
    // Without an ability for it, the answer is JSON with the name and the arguments.
    let text = json!({"content": r#"{"name":"run","arguments":{"input":"ls"}}"#});
    let mut body = chat(&json!({}));
    body["tool_choice"] = json!({"type": "custom", "custom": {"name": "run"}});
    let engine = StandIn::says(&[text], FinishReason::Stop).of(Kind::Ollama);
    let (answer, _) = ask(engine, &body).await;
    let called = &answer.json()["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(called["type"], "custom", "{}", answer.text());
    assert_eq!(called["custom"], json!({"name": "run", "input": "ls"}));
}

#[tokio::test]
async fn the_grammar_of_a_chats_custom_tool_is_shown_and_enforced_where_the_engine_can() {
    let grammar = json!({"syntax": "regex", "definition": "a+"});
    let body = chat(&json!({"format": {"type": "grammar", "grammar": grammar}}));
    for (kind, is_enforced) in [
        (Kind::Embedded, true),
        (Kind::Ollama, false),
        (Kind::OpenAi, false),
    ] {
        let (answer, engine) = ask(StandIn::hello().of(kind), &body).await;
        let ignored = answer.header("x-loggia-ignored").unwrap_or_default();
        assert_eq!(ignored.contains("format"), !is_enforced, "{ignored}");
        let request = engine.request();
        let function = request.tools.expect("tools")[0].function.clone();
        let function = function.expect("a function");
        assert_eq!(function.input_grammar.is_some(), is_enforced);
        let shown = function.description.expect("a description");
        assert!(shown.ends_with("grammar (regex):\na+"), "{shown}");
    }
}

#[tokio::test]
async fn custom_tools_that_cannot_be_read_are_refused_with_their_place() {
    let grammar = |grammar: Value| json!({"format": {"type": "grammar", "grammar": grammar}});
    let mut without = chat(&json!({}));
    without["tools"][0] = json!({"type": "custom"});
    let place = "tools[0].custom";
    for (body, code, param) in [
        (without, "missing_required_parameter", ""),
        (
            chat(&json!({"name": null})),
            "missing_required_parameter",
            ".name",
        ),
        (chat(&json!({"name": "a b"})), "invalid_value", ".name"),
        (chat(&json!({"format": "text"})), "invalid_type", ".format"),
        (
            chat(&json!({"format": {"type": "json"}})),
            "invalid_value",
            ".format.type",
        ),
        (
            chat(&json!({"format": {"type": "grammar", "syntax": "regex", "definition": "a"}})),
            "missing_required_parameter",
            ".format.grammar",
        ),
        (
            chat(&grammar(json!({"syntax": "gbnf", "definition": "a"}))),
            "invalid_value",
            ".format.grammar.syntax",
        ),
        (
            chat(&grammar(json!({"syntax": "regex", "definition": "a("}))),
            "invalid_value",
            ".format.grammar.definition",
        ),
    ] {
        for kind in KINDS {
            for strictness in [Strictness::Strict, Strictness::Plain, Strictness::Lenient] {
                let policy = Policy {
                    strictness,
                    ..Policy::default()
                };
                let engine = Arc::new(StandIn::hello().of(kind));
                let answer = ask_at(PATH, &engine, policy, &body).await;
                assert_eq!(answer.status(), 400, "{body}");
                let error = answer.json()["error"].clone();
                let expected = (json!(code), json!(format!("{place}{param}")));
                assert_eq!((error["code"].clone(), error["param"].clone()), expected);
            }
        }
    }
}

#[tokio::test]
async fn a_chat_goes_on_after_the_result_of_a_custom_tool() {
    let mut body = chat(&json!({}));
    body["messages"] = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "custom", "custom": {"name": "run", "input": "ls"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
    ]);
    // A client may omit its tools to get a text.
    let mut without_tools = body.clone();
    without_tools
        .as_object_mut()
        .expect("an object")
        .remove("tools");
    for (kind, body) in KINDS
        .into_iter()
        .flat_map(|kind| [(kind, &body), (kind, &without_tools)])
    {
        let (answer, engine) = ask(StandIn::hello().of(kind), body).await;
        assert_eq!(answer.header("x-loggia-ignored"), None);
        let asked = engine.asked();
        let called = &asked["messages"][1]["tool_calls"][0]["function"];
        assert_eq!(called["name"], "run");
        assert_eq!(called["arguments"], "{\"input\":\"ls\"}");
        assert_eq!(asked["messages"][2]["content"], "a.txt");
    }
}
