//! Measures the engine on this machine: `cargo run --release -p loggia-llama --example speed --
//! FILE [parallel requests]…`.
//!
//! It prints the tokens per second of wall time, and the milliseconds of processor time per token,
//! which other programs on the machine change little. The environment variables `THREADS`, `PIECE`
//! and `BATCH` set the options of these names. `DRAFT` sets a draft model and `DRAFT_TOKENS` its
//! maximum number of draft tokens; with `DRAFT_ALWAYS` it drafts regardless of the cost.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::join_all;
use loggia_backend::{Backend, ChatCall, Event};
use loggia_llama::{Draft, Llama, LlamaOptions};
use serde_json::json;

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a GGUF file")?;
    let mut at_once: Vec<u32> = arguments
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    if at_once.is_empty() {
        at_once = vec![1, 4, 8];
    }
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let mut options = LlamaOptions::new(file, "model");
    options.parallel = at_once.iter().copied().max().unwrap_or(1);
    options.threads = number("THREADS");
    options.piece = number("PIECE").unwrap_or(options.piece);
    options.batch = number("BATCH").unwrap_or(options.batch);
    options.draft = std::env::var_os("DRAFT").map(|path| Draft {
        path: path.into(),
        tokens: number("DRAFT_TOKENS").unwrap_or(4),
        always: std::env::var_os("DRAFT_ALWAYS").is_some(),
    });
    let llama = Llama::open(&options)?;
    for requests in at_once {
        let (began, cpu) = (Instant::now(), processor_time());
        let answers =
            join_all((0..requests).map(|i| ask(&llama, format!("Tell me story number {i}."))))
                .await;
        let tokens: u64 = answers.into_iter().sum::<Result<u64, _>>()?;
        report(&format!("{requests} at once"), tokens, began, cpu);
    }
    let (began, cpu) = (Instant::now(), processor_time());
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(150);
    let read = answer(&llama, &prompt, 1).await?.0;
    report("reading a prompt", read, began, cpu);
    Ok(())
}

async fn ask(llama: &Llama, question: String) -> Result<u64, Failed> {
    Ok(answer(llama, &question, 128).await?.1)
}

/// Returns the numbers of tokens of the prompt and of the answer.
async fn answer(llama: &Llama, question: &str, most: u32) -> Result<(u64, u64), Failed> {
    let request = serde_json::from_value(json!({
        "model": "model", "messages": [{"role": "user", "content": question}], "max_tokens": most,
        "temperature": 0.8, "logit_bias": {"0": -100, "2": -100}
    }))?;
    let call = ChatCall::new("chatcmpl-1", Arc::new(request));
    let mut events = llama.start(call.into()).await?.events;
    let mut counted = (0, 0);
    while let Some(event) = events.next().await {
        if let Event::Usage(usage) = event? {
            counted = (usage.prompt_tokens, usage.completion_tokens);
        }
    }
    Ok(counted)
}

fn report(what: &str, tokens: u64, began: Instant, cpu: f64) {
    #[expect(clippy::cast_precision_loss, reason = "some thousand tokens")]
    let tokens = tokens as f64;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), processor_time() - cpu);
    println!(
        "{what:>16}: {:6.1} tokens/s, {:5.2} ms of processor time a token",
        tokens / wall,
        cpu * 1000.0 / tokens
    );
}

/// The processor time of this process in seconds, if the system reports it like Linux; 0 elsewhere.
fn processor_time() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let schedule = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedule.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
