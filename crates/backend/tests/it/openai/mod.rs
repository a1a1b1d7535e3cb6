//! Tests of the backend for engines that speak OpenAI's API: the bytes that an engine gets, and the
//! events that its bytes become.

mod audio;
mod completions;
mod count;
mod embeddings;
mod ends;
mod llama_server;
mod models;
mod reasoning;
mod recorded;
mod refusals;
mod requests;
mod rerank;
mod stream;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use crate::raw::{RawEngine, answer, piece, stream_end, stream_head};
use futures_util::StreamExt;
use loggia_backend::http::{Client, Limits};
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, ChatCall, Event, Reply};
use serde_json::{Value, json};

pub(super) fn engine_at(url: &str) -> OpenAi {
    let limits = Limits {
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    OpenAi::new("gpu", Client::new(limits), url.parse().unwrap(), None)
}

pub(super) fn call(request: Value) -> ChatCall {
    let request = Arc::new(serde_json::from_value(request).unwrap());
    ChatCall::new("chatcmpl-1", request)
}

pub(super) fn whole_call() -> ChatCall {
    call(json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}))
}

pub(super) fn stream_call() -> ChatCall {
    call(json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true}))
}

/// Returns each event as JSON, and the error if there is one.
pub(super) async fn told(reply: Reply) -> (Vec<Value>, Option<BackendError>) {
    let mut events = reply.events;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Chunk(chunk)) => {
                let mut value = json!({"choices": chunk.choices});
                value.as_object_mut().unwrap().extend(chunk.extra);
                told.push(value);
            }
            Ok(Event::Usage(usage)) => told.push(json!({"usage": usage})),
            Ok(
                other @ (Event::Waiting(_)
                | Event::EndedEarly(_)
                | Event::ServerTool(_)
                | Event::StopString(_)),
            ) => {
                panic!("no engine of this kind tells {other:?}")
            }
            Err(error) => return (told, Some(error)),
        }
    }
    (told, None)
}

pub(super) async fn stream_of(
    text: &str,
) -> Result<(Vec<Value>, Option<BackendError>), BackendError> {
    let engine = RawEngine::start([vec![stream_head(), piece(text), stream_end()]]).await;
    Ok(told(engine_at(&engine.url).start(stream_call().into()).await?).await)
}

pub(super) async fn refused_with(status: &str, headers: &str, body: &str) -> BackendError {
    let engine = RawEngine::start([answer(status, headers, body)]).await;
    engine_at(&engine.url)
        .start(whole_call().into())
        .await
        .unwrap_err()
}

/// A stream of llama-server, with its own fields. The usage is in a separate event.
pub(super) const STREAM: &str = concat!(
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"created\":1760000000,",
    "\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"system_fingerprint\":\"b6500-abc\",\"object\":\"chat.completion.chunk\"}\n\n",
    ": a comment\n\n",
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"Hé\",\"of_its_own\":[1]},\"stop_reason\":null}],",
    "\"created\":1760000000,\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\"}\n\n",
    "data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}],\"created\":1760000000,\"id\":\"chatcmpl-x\",",
    "\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\"}\n\n",
    "data: {\"choices\":[],\"created\":1760000000,\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\",",
    "\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":9,\"total_tokens\":10},\"timings\":{\"predicted_ms\":1.5}}\n\n",
    "data: [DONE]\n\n",
);

pub(super) fn stream_told() -> Vec<Value> {
    vec![
        json!({"choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": null, "finish_reason": null}]}),
        json!({"choices": [{
            "index": 0, "delta": {"content": "Hé", "of_its_own": [1]}, "logprobs": null, "finish_reason": null, "stop_reason": null,
        }]}),
        json!({"choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]}),
        json!({"choices": [], "timings": {"predicted_ms": 1.5}}),
        json!({"usage": {"completion_tokens": 1, "prompt_tokens": 9, "total_tokens": 10}}),
    ]
}

/// A complete answer of vLLM, with its own fields.
pub(super) const WHOLE: &str = r#"{"id":"chatcmpl-x","object":"chat.completion","created":1760000000,"model":"/models/m","choices":[{"index":0,
"message":{"role":"assistant","content":null,"refusal":null,"annotations":null,"audio":null,"reasoning_content":"Hm.","tool_calls":[
{"id":"call_a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"call_b","type":"function","function":{"name":"g",
"arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}],"service_tier":null,"system_fingerprint":null,
"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1,"prompt_tokens_details":null},"kv_transfer_params":null}"#;
