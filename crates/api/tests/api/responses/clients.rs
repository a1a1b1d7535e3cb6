//! Requests with the shapes that real clients send, and recorded answers of an Ollama.

use loggia_api::Policy;
use serde_json::{Value, json};

use super::stand_in::{KINDS, StandIn, response, without_ids};
use super::state_machine::checked;
use crate::support::{Scripted, layered, post, send};

/// The requests: the shapes are those of real clients, the texts are ours
/// (`fixtures/responses/README.md`).
const SHAPES: &str = include_str!("../../../../../fixtures/responses/shapes.json");

#[tokio::test]
async fn every_shape_that_a_client_was_seen_to_send_is_answered_by_every_kind_of_engine() {
    let shapes: Vec<Value> = serde_json::from_str(SHAPES).expect("JSON");
    assert!(shapes.len() >= 10);
    for shape in shapes {
        for kind in KINDS {
            let mut body = shape["body"].clone();
            body.as_object_mut().expect("an object").remove("stream");
            let (response, engine) = response(StandIn::hello().of(kind), &body).await;
            assert_eq!(response["status"], "completed", "{}", shape["client"]);
            let roles: Vec<Value> = engine.asked()["messages"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|message| message["role"].clone())
                .collect();
            assert_eq!(json!(roles), shape["roles"], "{}", shape["client"]);
        }
    }
}

/// Returns the complete and the streamed response for a recorded answer of an Ollama.
async fn recorded(name: &str, body: &Value) -> (Value, Value) {
    let whole = Scripted::default().recorded(&format!("chat/whole{name}"));
    let stream = Scripted::default().recorded(&format!("chat/stream{name}"));
    let whole = send(
        &layered(&whole, Policy::default()),
        post("/v1/responses", body.to_string()),
    )
    .await;
    assert_eq!(whole.status(), 200, "{}", whole.text());
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let stream = send(
        &layered(&stream, Policy::default()),
        post("/v1/responses", streamed.to_string()),
    )
    .await;
    (
        without_ids(whole.json()),
        without_ids(checked(stream.text())),
    )
}

#[tokio::test]
async fn recorded_answers_of_an_ollama_are_responses() {
    let asked = json!({"model": "smollm2:135m", "input": "Hello"});
    let tools = json!([{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
    let with_tools =
        json!({"model": "smollm2-tools:135m", "input": "Weather in Paris?", "tools": tools});
    for (name, body, kinds) in [
        ("", &asked, &["message"][..]),
        ("-thinking", &asked, &["reasoning", "message"]),
        (
            "-text-then-tool-call",
            &with_tools,
            &["message", "function_call"],
        ),
        (
            "-two-tool-calls",
            &with_tools,
            &["function_call", "function_call"],
        ),
    ] {
        let (whole, end) = recorded(name, body).await;
        for response in [whole, end] {
            let output = response["output"].as_array().expect("a list");
            let found: Vec<&str> = output
                .iter()
                .filter_map(|item| item["type"].as_str())
                .collect();
            assert_eq!(found, kinds, "{name}");
            assert!(
                response["usage"]["output_tokens"].as_u64() > Some(0),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn an_ollama_that_fails_under_way_fails_the_response() {
    let inner = Scripted::default().recorded("chat/runner-killed-mid-stream");
    let body = json!({"model": "smollm2:135m", "input": "Hello", "stream": true});
    let answer = send(
        &layered(&inner, Policy::default()),
        post("/v1/responses", body.to_string()),
    )
    .await;
    assert_eq!(checked(answer.text())["status"], "failed");
}

#[tokio::test]
async fn an_input_that_is_too_long_is_a_400_about_the_input() {
    let inner = Scripted::default().recorded("chat/overflow-truncate-false");
    for truncation in [json!(null), json!("disabled"), json!("auto")] {
        let body = json!({"model": "smollm2:135m", "input": "Hello", "truncation": truncation});
        let answer = send(
            &layered(&inner, Policy::default()),
            post("/v1/responses", body.to_string()),
        )
        .await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["code"], &error["param"]),
            (400, &json!("context_length_exceeded"), &json!("input"))
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains("your input")),
            "{error}"
        );
    }
}
