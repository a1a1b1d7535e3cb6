//! Counts the answers that match their schemas: `cargo run --release -p loggia-llama --example
//! valid -- FILE [answers] [parallel requests]`.
//!
//! It uses short schemas of several kinds, at temperature 1. Each answer is parsed as JSON and
//! validated by code that is independent of the engine (`tests/it/support/shape.rs`).

#[path = "../tests/it/support/shape.rs"]
mod shape;

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream;
use loggia_backend::{Backend, ChatCall, Event};
use loggia_llama::{Llama, LlamaOptions};
use serde_json::{Value, json};

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a GGUF file")?;
    let answers: usize = arguments.next().map_or(Ok(500), |number| number.parse())?;
    let at_once: u32 = arguments.next().map_or(Ok(8), |number| number.parse())?;
    let mut options = LlamaOptions::new(file, "model");
    options.parallel = at_once;
    options.threads = std::env::var("THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok());
    let llama = Llama::open(&options)?;
    let schemas = shape::schemas();
    let began = Instant::now();
    let judged = stream::iter(0..answers).map(|number| {
        let (question, schema) = &schemas[number % schemas.len()];
        judge(&llama, question, schema)
    });
    let judged: Vec<Result<(bool, u64), Failed>> =
        judged.buffer_unordered(at_once as usize).collect().await;
    let (mut valid, mut tokens) = (0, 0);
    for one in judged {
        let (is_valid, generated) = one?;
        valid += usize::from(is_valid);
        tokens += generated;
    }
    println!(
        "{valid} of {answers} valid, {at_once} at once, {tokens} tokens in {:?}",
        began.elapsed()
    );
    Ok(())
}

/// Whether the answer to a question matches the schema, and the number of its tokens.
async fn judge(llama: &Llama, question: &str, schema: &Value) -> Result<(bool, u64), Failed> {
    let request = serde_json::from_value(json!({
        "model": "model", "messages": [{"role": "user", "content": question}], "temperature": 1, "max_tokens": 400,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}}
    }))?;
    let call = ChatCall::new("chatcmpl-1", Arc::new(request));
    let mut events = llama.start(call.into()).await?.events;
    let (mut text, mut tokens) = (String::new(), 0);
    while let Some(event) = events.next().await {
        match event? {
            Event::Chunk(chunk) => text.extend(
                chunk
                    .choices
                    .into_iter()
                    .filter_map(|choice| choice.delta.content),
            ),
            Event::Usage(usage) => tokens = usage.completion_tokens,
            Event::Waiting(_)
            | Event::EndedEarly(_)
            | Event::ServerTool(_)
            | Event::StopString(_) => {}
        }
    }
    let value = serde_json::from_str::<Value>(&text);
    let is_valid = value
        .as_ref()
        .is_ok_and(|value| shape::keeps(schema, schema, value));
    if !is_valid {
        println!("not valid: {text}");
    }
    Ok((is_valid, tokens))
}
