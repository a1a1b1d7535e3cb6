//! Shared code of the engine's tests: the default model, and clients that send requests, read and
//! disconnect.

#![allow(dead_code, reason = "each file of tests uses some of these")]
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "this is code shared by tests, and tests pass `json!` values directly"
)]

pub(crate) mod family;
pub(crate) mod gguf;
pub(crate) mod minilm;
pub(crate) mod projector;
pub(crate) mod reranker;
pub(crate) mod shape;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use loggia_backend::{
    Backend, BackendError, ChatCall, CompletionCall, EarlyEnd, Event, Events, PromptUsage,
};
use loggia_llama::{Llama, LlamaOptions};
use loggia_wire::openai::{CompletionUsage, FinishReason, TokenLogprob, ToolCallDelta};
use serde_json::{Value, json};

/// The default model, which `make model` downloads.
pub(crate) fn model() -> PathBuf {
    let beside = || {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../.loggia/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    };
    let path = std::env::var_os("LOGGIA_TEST_MODEL").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no model at {}: run `make model`, or name one in LOGGIA_TEST_MODEL",
        path.display()
    );
    path
}

/// An engine with the default model; `change` modifies the options.
pub(crate) fn open(change: impl FnOnce(&mut LlamaOptions)) -> Llama {
    let mut options = LlamaOptions::new(model(), "smollm2");
    // Tests run in parallel, and the threads of one engine wait for each other. With one thread
    // each, no thread waits for another that has no processor.
    options.threads = Some(1);
    change(&mut options);
    Llama::open(&options).unwrap()
}

/// A request with one user message and these fields.
pub(crate) fn call(text: &str, fields: Value) -> ChatCall {
    call_with(json!([{"role": "user", "content": text}]), fields)
}

/// A request with these messages and fields.
pub(crate) fn call_with(messages: Value, fields: Value) -> ChatCall {
    let mut body = json!({"model": "smollm2", "messages": messages, "stream": true});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    ChatCall::new(
        "chatcmpl-test",
        Arc::new(serde_json::from_value(body).unwrap()),
    )
}

/// A text completion, greedy and streamed, with these fields. If a field is in both lists, the
/// second takes precedence.
pub(crate) fn completion(usual: &Value, fields: &Value) -> CompletionCall {
    let mut body = json!({"model": "smollm2", "temperature": 0, "stream": true});
    for fields in [usual, fields] {
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
    }
    let request = Arc::new(serde_json::from_value(body).unwrap());
    CompletionCall::new("cmpl-test", request)
}

/// A text of about this many tokens, which begins with `head`.
pub(crate) fn long_text(head: &str, tokens: usize) -> String {
    format!(
        "{head} {}",
        "The quick brown fox jumps over the lazy dog. ".repeat(tokens / 10)
    )
}

/// A whole answer, or as much of it as arrived.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// The deltas of the calls, in order.
    pub(crate) calls: Vec<ToolCallDelta>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) ended_early: Option<EarlyEnd>,
    /// The tokens of the prompt, which the first chunk reports.
    pub(crate) prompts: Vec<PromptUsage>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) usage: Option<CompletionUsage>,
    pub(crate) error: Option<BackendError>,
}

impl Whole {
    pub(crate) fn usage(&self) -> &CompletionUsage {
        self.usage.as_ref().unwrap()
    }

    pub(crate) fn cached(&self) -> u64 {
        self.usage()
            .prompt_tokens_details
            .as_ref()
            .unwrap()
            .cached_tokens
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Waiting(_) | Event::ServerTool(_) | Event::StopString(_) => {}
            Event::EndedEarly(why) => self.ended_early = Some(why),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Chunk(chunk) => {
                self.prompts.extend(chunk.prompt);
                for choice in chunk.choices {
                    self.text
                        .push_str(choice.delta.content.as_deref().unwrap_or_default());
                    self.reasoning.push_str(
                        choice
                            .delta
                            .reasoning_content
                            .as_deref()
                            .unwrap_or_default(),
                    );
                    self.calls
                        .extend(choice.delta.tool_calls.unwrap_or_default());
                    self.logprobs.extend(
                        choice
                            .logprobs
                            .and_then(|logprobs| logprobs.content)
                            .unwrap_or_default(),
                    );
                    self.finish = choice.finish_reason.or(self.finish);
                }
            }
        }
    }
}

/// Sends a request, and reads the answer to its end.
pub(crate) async fn ask(llama: &Llama, call: ChatCall) -> Whole {
    match llama.start(call.into()).await {
        Ok(reply) => read(reply.events).await,
        Err(error) => Whole {
            error: Some(error),
            ..Whole::default()
        },
    }
}

/// Sends a text completion, and reads the answer to its end.
pub(crate) async fn complete(llama: &Llama, call: CompletionCall) -> Whole {
    match llama.start(call.into()).await {
        Ok(reply) => read(reply.events).await,
        Err(error) => Whole {
            error: Some(error),
            ..Whole::default()
        },
    }
}

/// Reads an answer to its end.
pub(crate) async fn read(mut events: Events) -> Whole {
    let mut whole = Whole::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => whole.take(event),
            Err(error) => whole.error = Some(error),
        }
    }
    whole
}

/// Reads up to the next piece of text.
pub(crate) async fn next_text(events: &mut Events) -> String {
    loop {
        if let Event::Chunk(chunk) = events.next().await.unwrap().unwrap()
            && let Some(text) = chunk
                .choices
                .into_iter()
                .find_map(|choice| choice.delta.content)
        {
            return text;
        }
    }
}

/// Compares a greedy answer with the one of a request that runs alone and reads nothing ahead.
/// Parallel requests are summed in another order, so each token must be about as probable as before
/// (differences of 0.2 occur without reading ahead too). Where the tokens differ, both must have
/// been about equally probable; the text after that may differ.
pub(crate) fn agree(whole: &Whole, usual: &Whole) {
    assert_eq!(whole.usage().completion_tokens, whole.logprobs.len() as u64);
    for (own, other) in whole.logprobs.iter().zip(&usual.logprobs) {
        let was = other.top_logprobs.iter().find(|top| top.token == own.token);
        assert!(
            was.is_some_and(|was| (was.logprob - own.logprob).abs() < 0.5),
            "{own:?} {other:?}"
        );
        if own.token != other.token {
            return;
        }
    }
    assert_eq!((&whole.text, whole.finish), (&usual.text, usual.finish));
}

/// Sends a request, and returns the texts of all choices.
pub(crate) async fn ask_choices(llama: &Llama, call: ChatCall) -> Vec<String> {
    let mut texts = vec![String::new(); call.work.choices()];
    let mut events = llama.start(call.into()).await.unwrap().events;
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event.unwrap() {
            for choice in chunk.choices {
                texts[choice.index as usize]
                    .push_str(choice.delta.content.as_deref().unwrap_or_default());
                assert!(
                    choice
                        .finish_reason
                        .is_none_or(|reason| reason == FinishReason::Stop),
                    "{choice:?}"
                );
            }
        }
    }
    texts
}
