//! Converts a complete answer of an engine to one chunk and its usage.

use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletion, Choice, ChunkChoice, CompletionUsage, Delta, FinishReason, FunctionCall,
    FunctionCallDelta, ResponseMessage, ToolCall, ToolCallDelta,
};
use serde_json::Value;

use super::frame::{RequestKind, Unreadable};
use super::{older_completions, repair};
use crate::Chunk;
use crate::tool_calls::regular::{NO_INDEX, ToolCalls};

/// A parsed complete answer.
#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) chunk: Chunk,
    pub(super) usage: Option<CompletionUsage>,
    pub(super) system_fingerprint: Option<String>,
}

impl Whole {
    /// Removes the beginning of the answer that the client wrote itself.
    pub(super) fn remove_beginning(&mut self, beginning: &str) {
        for choice in &mut self.chunk.choices {
            if let Some(content) = &mut choice.delta.content
                && content.starts_with(beginning)
            {
                content.drain(..beginning.len());
            }
        }
    }
}

/// The possible content of a response with status 200: an answer or an error.
pub(super) enum WholeResponse {
    Answer(Box<Whole>),
    Error(Value),
}

/// Parses a complete answer. If it does not follow OpenAI's specification, repairs it first. Its
/// calls are normalised by `calls`.
pub(super) fn read(
    json: &[u8],
    kind: RequestKind,
    calls: ToolCalls,
) -> Result<WholeResponse, Unreadable> {
    if kind == RequestKind::Chat
        && let Ok(completion) = serde_json::from_slice::<ChatCompletion>(json)
        && !completion.extra.contains_key("error")
    {
        return taken_apart(completion, calls).map(WholeResponse::Answer);
    }
    let mut value: Value = serde_json::from_slice(json).map_err(|_| "it is not JSON")?;
    if kind == RequestKind::Completion {
        older_completions::as_a_chat(&mut value, "message");
    }
    repair::completion(&mut value);
    let says_error = value.get("error").is_some_and(|error| !error.is_null());
    if says_error || (value.get("choices").is_none() && value.get("message").is_some()) {
        return Ok(WholeResponse::Error(value));
    }
    let completion = serde_json::from_value(value).map_err(|_| "it is not a chat.completion")?;
    taken_apart(completion, calls).map(WholeResponse::Answer)
}

fn taken_apart(completion: ChatCompletion, mut calls: ToolCalls) -> Result<Box<Whole>, Unreadable> {
    let ChatCompletion {
        created,
        choices,
        mut usage,
        system_fingerprint,
        extra,
        ..
    } = completion;
    let created = (created > 0).then_some(created);
    let mut choices: Vec<ChunkChoice> = choices.into_iter().map(chunk_choice).collect();
    for choice in &mut choices {
        usage = usage.or(repair::usage_within(choice));
        // The answer is complete. Without a reason from the engine, the model ended it.
        choice.finish_reason.get_or_insert(FinishReason::Stop);
        calls.whole(choice)?;
    }
    Ok(Box::new(Whole {
        chunk: Chunk {
            created,
            prompt: None,
            choices,
            extra,
        },
        usage,
        system_fingerprint,
    }))
}

fn chunk_choice(choice: Choice) -> ChunkChoice {
    let Choice {
        index,
        message,
        logprobs,
        finish_reason,
        extra,
    } = choice;
    ChunkChoice {
        index,
        delta: delta(message),
        logprobs,
        finish_reason,
        extra,
    }
}

fn delta(message: ResponseMessage) -> Delta {
    let ResponseMessage {
        role,
        content,
        refusal,
        reasoning_content,
        reasoning,
        tool_calls,
        function_call,
        annotations,
        mut extra,
    } = message;
    if let Some(annotations) = annotations {
        extra.insert("annotations".to_owned(), Value::Array(annotations));
    }
    Delta {
        role: Some(role),
        content,
        refusal,
        reasoning_content,
        reasoning,
        tool_calls: tool_calls.map(|calls| calls.into_iter().map(call_delta).collect()),
        function_call: function_call.map(function_delta),
        extra,
    }
}

fn call_delta(call: ToolCall) -> ToolCallDelta {
    let ToolCall {
        id,
        kind,
        function,
        extra,
    } = call;
    ToolCallDelta {
        index: NO_INDEX,
        id: Some(id),
        kind: Some(kind),
        function: Some(function_delta(function)),
        extra,
    }
}

fn function_delta(function: FunctionCall) -> FunctionCallDelta {
    let FunctionCall {
        name,
        arguments,
        extra,
    } = function;
    let extra: Extra = extra;
    FunctionCallDelta {
        name: Some(name),
        arguments: Some(arguments),
        extra,
    }
}
