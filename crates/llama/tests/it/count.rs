//! The tokens of a prompt, counted without an answer: as many as the answer to the same chat
//! reports.

use crate::support::{ask, call, call_with, long_text, open};
use loggia_backend::{Backend, BackendError, ChatCall};
use loggia_llama::Llama;
use serde_json::{Value, json};

/// Counts a chat, and compares with the usage of an answer of one token.
async fn compare(llama: &Llama, call: impl Fn(Value) -> ChatCall) {
    let count = llama.count_tokens(call(json!({}))).await.expect("a count");
    let whole = ask(llama, call(json!({"max_tokens": 1}))).await;
    assert_eq!(count.input_tokens, whole.usage().prompt_tokens);
    assert!(count.is_exact);
}

#[tokio::test]
async fn a_count_is_what_an_answer_reports() {
    let llama = open(|_| ());
    let count = llama.count_tokens(call("Hi", json!({}))).await.unwrap();
    assert_eq!(
        (count.input_tokens, &*count.served_by.model),
        (31, "smollm2")
    );
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]);
    let called = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Wie ist das Wetter in Köln? 🌦"}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\": \"Köln\"}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "Rain."},
    ]);
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    for fields in [
        json!({}),
        json!({"tools": tools}),
        json!({"tools": tools, "tool_choice": "required"}),
        json!({"tools": tools, "tool_choice": "none"}),
        json!({"response_format": schema}),
        json!({"response_format": schema, "tools": tools}),
    ] {
        for messages in [json!([{"role": "user", "content": "Hi"}]), called.clone()] {
            let with = |more: Value| {
                let mut fields = fields.clone();
                let more = more.as_object().unwrap().clone();
                fields.as_object_mut().unwrap().extend(more);
                call_with(messages.clone(), fields)
            };
            compare(&llama, with).await;
        }
    }
}

#[tokio::test]
async fn a_prompt_that_exceeds_the_context_is_counted_too() {
    let llama = open(|options| options.context = Some(128));
    let long = long_text("Read this.", 5000);
    let count = llama.count_tokens(call(&long, json!({}))).await.unwrap();
    assert!((4900..5300).contains(&count.input_tokens), "{count:?}");
    let refused = ask(&llama, call(&long_text("Read this.", 300), json!({}))).await;
    let Some(BackendError::ContextLengthExceeded { prompt_tokens, .. }) = refused.error else {
        panic!("{refused:?}");
    };
    let again = call(&long_text("Read this.", 300), json!({}));
    let count = llama.count_tokens(again).await.unwrap();
    assert_eq!(Some(count.input_tokens), prompt_tokens);
}

#[tokio::test]
async fn another_model_is_not_counted() {
    let llama = open(|_| ());
    let mut other = call("Hi", json!({}));
    std::sync::Arc::make_mut(&mut other.work).model = "other".to_owned();
    let error = llama.count_tokens(other).await.unwrap_err();
    assert_eq!(error, BackendError::model_not_found("other"));
}
