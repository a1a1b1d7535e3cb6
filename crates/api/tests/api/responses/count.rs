//! `POST /v1/responses/input_tokens`: admitted as a response, answered with a count.

use std::sync::Arc;

use loggia_api::{Policy, Strictness};
use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, ask, ask_at, hi};
use crate::support::Answer;

const PATH: &str = "/v1/responses/input_tokens";

async fn count(engine: &Arc<StandIn>, body: &Value) -> Answer {
    ask_at(PATH, engine, Policy::default(), body).await
}

#[tokio::test]
async fn the_input_of_a_response_is_counted_on_every_kind_of_engine() {
    for kind in KINDS {
        let engine = Arc::new(StandIn::hello().of(kind));
        let body = json!({"model": "m", "instructions": "Be brief.", "input": [
            {"role": "user", "content": "How are you?"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Fine."}]},
            {"role": "user", "content": "Good."}]});
        let answer = count(&engine, &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let counted = json!({"object": "response.input_tokens", "input_tokens": 11});
        assert_eq!(answer.json(), counted);
        assert_eq!(
            answer.header("x-loggia-served-by"),
            Some("stand-in; model=m")
        );
        assert_eq!(answer.header("x-loggia-estimated"), None);
    }
}

#[tokio::test]
async fn an_estimate_says_so() {
    let engine = Arc::new(StandIn::hello().estimates());
    let answer = count(&engine, &hi(json!({}))).await;
    assert_eq!(answer.header("x-loggia-estimated"), Some("input_tokens"));
}

/// Every field that OpenAI's specification lists for this path reaches the count as it would reach
/// the answer.
#[tokio::test]
async fn the_prompt_that_is_counted_is_the_one_that_would_be_answered() {
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let schema = json!({"type": "json_schema", "name": "s", "schema": {"type": "object"}});
    for fields in [
        json!({"instructions": "Be brief."}),
        json!({"tools": [tool]}),
        json!({"tools": [tool], "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"tools": [tool], "tool_choice": {"type": "function", "name": "f"}}),
        json!({"text": {"format": schema, "verbosity": "low"}}),
        json!({"reasoning": {"effort": "low", "summary": "auto"}}),
        json!({"truncation": "disabled"}),
        json!({"previous_response_id": null, "conversation": null}),
    ] {
        for kind in KINDS {
            let engine = Arc::new(StandIn::hello().of(kind));
            let body = hi(fields.clone());
            let whole = ask(&engine, Policy::default(), &body).await;
            let asked = engine.asked();
            let counted = count(&engine, &body).await;
            assert_eq!(counted.status(), 200, "{}", counted.text());
            assert_eq!(engine.asked()["messages"], asked["messages"], "{fields}");
            assert_eq!(engine.asked()["tools"], asked["tools"], "{fields}");
            let ignored = |answer: &Answer| answer.header("x-loggia-ignored").map(str::to_owned);
            assert_eq!(ignored(&counted), ignored(&whole), "{fields}");
        }
    }
}

#[tokio::test]
async fn a_request_that_would_be_refused_is_refused_alike() {
    for body in [
        json!({"input": "Hi"}),
        json!({"model": "m"}),
        hi(json!({"input": []})),
        hi(json!({"temperature": 9})),
        hi(json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]})),
        hi(json!({"tools": 1})),
        hi(json!({"previous_response_id": "resp_1"})),
    ] {
        for strictness in [Strictness::Strict, Strictness::Plain] {
            let policy = || Policy {
                strictness,
                ..Policy::default()
            };
            let engine = Arc::new(StandIn::hello().of(Kind::Ollama));
            let refused = ask_at(PATH, &engine, policy(), &body).await;
            let response = ask(&engine, policy(), &body).await;
            assert_eq!(refused.status(), response.status(), "{body}");
            assert_ne!(refused.status(), 200, "{body}");
            assert_eq!(refused.json(), response.json(), "{body}");
        }
    }
}

#[tokio::test]
async fn an_engine_without_a_tokenizer_is_asked_for_one_token() {
    use crate::support::{Scripted, layered, post, recording, send};

    let inner = Scripted::default()
        .on("/api/show", 200, [recording("server/show").1])
        .on("/api/tags", 200, [recording("server/tags").1])
        .on("/api/ps", 200, [json!({"models": []}).to_string()])
        .recorded("chat/whole");
    let body = json!({"model": "smollm2:135m", "input": "Hi", "max_output_tokens": 100});
    let layer = layered(&inner, Policy::default());
    let answer = send(&layer, post(PATH, body.to_string())).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let recorded: Value = serde_json::from_slice(&recording("chat/whole").1).expect("JSON");
    assert_eq!(answer.json()["input_tokens"], recorded["prompt_eval_count"]);
    assert_eq!(answer.header("x-loggia-estimated"), None);
    let asked = inner.last_chat();
    assert_eq!(
        (&asked["options"]["num_predict"], &asked["stream"]),
        (&json!(1), &json!(false))
    );
}

/// Ollama refuses such a prompt before it computes anything, and reports its length.
#[tokio::test]
async fn a_prompt_that_exceeds_ollamas_context_is_counted_too() {
    use crate::support::{Scripted, layered, post, recording, send};

    let inner = Scripted::default()
        .on("/api/show", 200, [recording("server/show").1])
        .on("/api/tags", 200, [recording("server/tags").1])
        .on("/api/ps", 200, [json!({"models": []}).to_string()])
        .recorded("chat/overflow-truncate-false");
    let body = json!({"model": "smollm2:135m", "input": "Hi", "options": {"num_ctx": 512}});
    let layer = layered(&inner, Policy::default());
    let answer = send(&layer, post(PATH, body.to_string())).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["input_tokens"], 1210);
}

#[tokio::test]
async fn a_style_that_models_here_do_not_have_is_named() {
    for kind in KINDS {
        let engine = Arc::new(StandIn::hello().of(kind));
        let body = hi(json!({"personality": "friendly"}));
        let answer = count(&engine, &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.header("x-loggia-ignored"), Some("personality"));
        assert_eq!(engine.asked().get("personality"), None);
    }
}
