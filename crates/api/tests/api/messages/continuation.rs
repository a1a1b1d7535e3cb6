//! A last message of the model, which the answer continues, and a request without an answer.

use std::sync::Arc;

use loggia_api::Policy;
use loggia_backend::{Chunk, Event, PromptUsage};
use loggia_wire::openai::{ChunkChoice, FinishReason};
use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, ask, hi, message, refusal};
use crate::responses::stand_in::delta;
use crate::responses::state_machine::events;

/// A conversation that ends with this text of the model.
fn begun(text: &str) -> Value {
    json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}])
}

#[tokio::test]
async fn an_answer_continues_the_last_message_where_the_engine_has_a_field_for_it() {
    for kind in KINDS {
        let engine = StandIn::hello().of(kind);
        let asked = hi(json!({ "messages": begun("Hello, I am") }));
        let (_, engine) = message(engine, &asked).await;
        let chat = engine.asked();
        assert_eq!(chat["messages"], begun("Hello, I am"));
        let fields = (
            &chat["continue_final_message"],
            &chat["add_generation_prompt"],
        );
        match kind {
            Kind::Embedded => assert_eq!(fields, (&json!(true), &json!(false))),
            // The engine's templates decide, or the fields that it reads are not known.
            Kind::Ollama | Kind::OpenAi => assert_eq!(fields, (&Value::Null, &Value::Null)),
        }
    }
}

#[tokio::test]
async fn a_beginning_that_anthropic_would_refuse_is_refused() {
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    for (more, words) in [
        (
            json!({ "messages": begun("Hello ") }),
            "final assistant content cannot end with trailing whitespace",
        ),
        (
            json!({ "messages": begun("{"), "output_config": { "format": format } }),
            "'output_config.format'",
        ),
        (
            json!({ "messages": begun("x"), "thinking": {"type": "enabled", "budget_tokens": 50} }),
            "'thinking'",
        ),
        (
            json!({ "messages": begun("x"), "tools": tools, "tool_choice": {"type": "any"} }),
            "'tool_choice'",
        ),
    ] {
        let (status, kind, text) = refusal(&hi(more)).await;
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(text.starts_with("messages: "), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn max_tokens_0_reads_the_prompt_and_answers_nothing() {
    for kind in KINDS {
        let engine = Arc::new(StandIn::hello().of(kind));
        let answer = ask(&engine, Policy::default(), &hi(json!({"max_tokens": 0}))).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let message = answer.json();
        assert_eq!(message["content"], json!([]));
        assert_eq!(message["stop_reason"], "max_tokens");
        assert_eq!(message["usage"]["input_tokens"], 4);
        assert_eq!(message["usage"]["output_tokens"], 0);
        // Other engines generate a token, which is not shown.
        let most = u8::from(kind != Kind::Embedded);
        assert_eq!(engine.asked()["max_completion_tokens"], most);
    }
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for (beside, word) in [
        (json!({"stream": true}), "'stream'"),
        (
            json!({"output_config": { "format": format }}),
            "'output_config.format'",
        ),
        (json!({"tool_choice": {"type": "any"}}), "'tool_choice'"),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            "thinking.budget_tokens",
        ),
    ] {
        let mut asked = hi(beside);
        asked["max_tokens"] = json!(0);
        let (status, _, text) = refusal(&asked).await;
        assert_eq!(status, 400);
        assert!(text.contains("max_tokens") && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn the_first_event_has_the_tokens_of_the_prompt_where_the_engine_reports_them() {
    let Event::Chunk(mut first) = delta(&json!({"content": "Hello"})) else {
        unreachable!("a delta is a chunk");
    };
    first.prompt = Some(PromptUsage {
        tokens: 20,
        cached: 16,
    });
    let last = Chunk::of(ChunkChoice::finish(0, FinishReason::Stop));
    let engine = StandIn::with(vec![Event::Chunk(first), Event::Chunk(last)]);
    let mut asked = hi(json!({}));
    asked["stream"] = json!(true);
    let answer = ask(&Arc::new(engine), Policy::default(), &asked).await;
    let start = events(answer.text()).remove(0);
    assert_eq!(start["type"], "message_start");
    let usage = &start["message"]["usage"];
    assert_eq!(usage["input_tokens"], 4);
    assert_eq!(usage["cache_read_input_tokens"], 16);
    assert_eq!(usage["output_tokens"], 0);
}
