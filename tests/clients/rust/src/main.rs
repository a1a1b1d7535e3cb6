//! Tests a running loggia with the crate `async-openai`. The first argument selects the topic.
//!
//!     async-openai-client whole|stream|models|missing|call URL MODEL
//!
//! Exits with 0 if everything is correct, else panics with a message.
//! `test_async_openai.py` runs it.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, CreateChatCompletionRequest, FinishReason,
};
use futures_util::StreamExt;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [topic, url, model] = arguments.as_slice() else {
        panic!("topic, URL and model, please")
    };
    let config = OpenAIConfig::new()
        .with_api_base(format!("{url}/v1"))
        .with_api_key("unused");
    let client = Client::with_config(config);
    match topic.as_str() {
        "whole" => whole(&client, model).await,
        "stream" => stream(&client, model).await,
        "models" => models(&client, model).await,
        "missing" => missing(&client).await,
        "call" => call(&client, model).await,
        other => panic!("no such topic: {other}"),
    }
}

fn question(model: &str, more: Value) -> CreateChatCompletionRequest {
    let mut asked = json!({
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 24, "seed": 7, "temperature": 0.0,
    });
    for (key, value) in more.as_object().expect("an object") {
        asked[key] = value.clone();
    }
    serde_json::from_value(asked).expect("a request")
}

async fn whole(client: &Client<OpenAIConfig>, model: &str) {
    let answer = client
        .chat()
        .create(question(model, json!({})))
        .await
        .expect("an answer");
    let [choice] = answer.choices.as_slice() else {
        panic!("one choice")
    };
    assert!(
        !choice
            .message
            .content
            .as_deref()
            .unwrap_or_default()
            .is_empty()
    );
    assert!(matches!(
        choice.finish_reason,
        Some(FinishReason::Stop | FinishReason::Length)
    ));
    let usage = answer.usage.expect("usage");
    assert_eq!(
        usage.total_tokens,
        usage.prompt_tokens + usage.completion_tokens
    );
}

async fn stream(client: &Client<OpenAIConfig>, model: &str) {
    let asked = question(
        model,
        json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let mut chunks = client.chat().create_stream(asked).await.expect("a stream");
    let (mut text, mut finished, mut usage) = (String::new(), 0, None);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.expect("a chunk");
        usage = chunk.usage.or(usage);
        for choice in chunk.choices {
            text.push_str(choice.delta.content.as_deref().unwrap_or_default());
            finished += usize::from(choice.finish_reason.is_some());
        }
    }
    assert!(!text.is_empty() && finished == 1 && usage.is_some());
}

async fn models(client: &Client<OpenAIConfig>, model: &str) {
    let models = client.models().list().await.expect("a list");
    assert!(models.data.iter().any(|each| each.id == model));
    assert_eq!(
        client.models().retrieve(model).await.expect("a model").id,
        model
    );
}

async fn missing(client: &Client<OpenAIConfig>) {
    match client.chat().create(question("nope", json!({}))).await {
        Err(OpenAIError::ApiError(refused)) => {
            assert_eq!(refused.api_error.code.as_deref(), Some("model_not_found"));
        }
        other => panic!("a refusal, not {other:?}"),
    }
}

async fn call(client: &Client<OpenAIConfig>, model: &str) {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}},
        "required": ["city"], "additionalProperties": false});
    let asked = question(
        model,
        json!({
            "messages": [{"role": "user", "content": "Weather in Paris? Call get_weather."}], "max_tokens": 60,
            "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        }),
    );
    let answer = match client.chat().create(asked).await {
        Ok(answer) => answer,
        Err(OpenAIError::ApiError(refused)) => {
            println!("refused: {}", refused.api_error.param.unwrap_or_default());
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let calls = answer.choices[0]
        .message
        .tool_calls
        .as_deref()
        .unwrap_or_default();
    let [ChatCompletionMessageToolCalls::Function(call)] = calls else {
        panic!("one call of a function")
    };
    assert_eq!(call.function.name, "get_weather");
    let arguments: Value = serde_json::from_str(&call.function.arguments).expect("JSON");
    assert!(arguments["city"].is_string());
    println!("called");
}
