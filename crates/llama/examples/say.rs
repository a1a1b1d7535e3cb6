//! Prints one answer from a GGUF file, and its speed: `cargo run -p loggia-llama --example say --
//! FILE "a question" [JSON fields]`.

use std::io::Write;
use std::time::Instant;

use futures_util::StreamExt;
use loggia_backend::{Backend, ChatCall, Event};
use loggia_llama::{Llama, LlamaOptions};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a GGUF file")?;
    let question = arguments.next().ok_or("and a question")?;
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(arguments.next().as_deref().unwrap_or("{}"))?;
    let threads = std::env::var("THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok());
    let llama = Llama::open(&LlamaOptions {
        threads,
        ..LlamaOptions::new(file, "model")
    })?;

    let mut body = json!({"model": "model", "messages": [{"role": "user", "content": question}], "stream": true});
    body.as_object_mut().ok_or("no object")?.extend(fields);
    let request = serde_json::from_value(body)?;
    let call = ChatCall::new("chatcmpl-1", std::sync::Arc::new(request));
    let began = Instant::now();
    let mut events = llama.start(call.into()).await?.events;
    while let Some(event) = events.next().await {
        match event? {
            Event::Chunk(chunk) => {
                for choice in chunk.choices {
                    print!("{}", choice.delta.content.unwrap_or_default());
                    std::io::stdout().flush()?;
                }
            }
            Event::Usage(usage) => {
                println!(
                    "\n[{} + {} tokens in {:?}]",
                    usage.prompt_tokens,
                    usage.completion_tokens,
                    began.elapsed()
                );
            }
            Event::Waiting(_)
            | Event::EndedEarly(_)
            | Event::ServerTool(_)
            | Event::StopString(_) => {}
        }
    }
    Ok(())
}
