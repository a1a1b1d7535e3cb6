//! Repairs irregular JSON of engines, so that it can be parsed as OpenAI's types.
//!
//! It runs only on JSON that could not be parsed. It leaves unknown fields unchanged.

use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde_json::{Map, Value, json};

use crate::tool_calls::regular::NO_INDEX;

/// The value for a log-probability of minus infinity, which JSON cannot express. OpenAI uses it
/// too.
const IMPOSSIBLE: f64 = -9999.0;

/// Repairs a `chat.completion.chunk`.
pub(super) fn chunk(value: &mut Value) {
    answer(value, "delta");
}

/// Repairs a `chat.completion`.
pub(super) fn completion(value: &mut Value) {
    let Value::Object(object) = value else { return };
    for (key, absent) in [
        ("id", json!("")),
        ("object", json!("chat.completion")),
        ("model", json!("")),
    ] {
        if !object.get(key).is_some_and(Value::is_string) {
            object.insert(key.to_owned(), absent);
        }
    }
    answer(value, "message");
    if let Value::Object(object) = value {
        object.entry("created").or_insert(json!(0));
    }
}

/// Repairs an answer. `said` is the field of a choice that contains the message: `delta` or
/// `message`.
fn answer(value: &mut Value, said: &str) {
    let Value::Object(object) = value else { return };
    match object.get("created").map(Value::as_f64) {
        Some(Some(seconds)) if seconds >= 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a date; larger values saturate"
            )]
            object.insert("created".to_owned(), json!(seconds as u64));
        }
        Some(_) => drop(object.remove("created")),
        None => {}
    }
    if !object
        .get("system_fingerprint")
        .is_some_and(Value::is_string)
    {
        object.remove("system_fingerprint");
    }
    if let Some(choices) = object.get_mut("choices") {
        if choices.is_null() {
            *choices = json!([]);
        }
        for (position, one) in choices.as_array_mut().into_iter().flatten().enumerate() {
            choice(one, position, said);
        }
        if choices.as_array().into_iter().flatten().any(was_aborted) {
            *choices = json!([]);
            object.insert(
                "error".to_owned(),
                json!({"message": "the engine aborted the answer"}),
            );
        }
    }
    if let Some(counts) = object.get_mut("usage") {
        usage(counts);
    }
}

fn choice(choice: &mut Value, position: usize, said: &str) {
    let Value::Object(choice) = choice else {
        return;
    };
    if !choice.get("index").is_some_and(Value::is_u64) {
        choice.insert("index".to_owned(), json!(position));
    }
    if let Some(reason) = choice.get_mut("finish_reason") {
        finish_reason(reason);
    }
    if let Some(logprobs) = choice.get_mut("logprobs") {
        no_null_logprob(logprobs);
    }
    if choice.get(said).is_none_or(Value::is_null) {
        // Some engines stream messages, and some send a complete answer with a delta.
        let other = if said == "delta" { "message" } else { "delta" };
        let other = choice
            .remove(other)
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({}));
        choice.insert(said.to_owned(), other);
    }
    if let Some(Value::Object(message)) = choice.get_mut(said) {
        text(message, said == "message");
        calls(message, said == "message");
    }
}

/// Repairs role and content. A complete message must have a role, a delta need not.
fn text(message: &mut Map<String, Value>, whole: bool) {
    if whole {
        message.insert("role".to_owned(), json!("assistant"));
    } else {
        message.remove("role");
    }
    if let Some(parts) = message.get("content").and_then(Value::as_array) {
        let text: String = parts
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .collect();
        message.insert("content".to_owned(), json!(text));
    }
}

fn calls(message: &mut Map<String, Value>, whole: bool) {
    match message.get_mut("tool_calls") {
        Some(Value::Array(calls)) => {
            calls.retain(Value::is_object);
            for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                tool_call(call, whole);
            }
        }
        Some(Value::Object(call)) => {
            tool_call(call, whole);
            let call = Value::Object(std::mem::take(call));
            message.insert("tool_calls".to_owned(), json!([call]));
        }
        Some(_) => drop(message.remove("tool_calls")),
        None => {}
    }
    match message.get_mut("function_call") {
        Some(Value::Object(call)) => function(call, whole),
        Some(_) => drop(message.remove("function_call")),
        None => {}
    }
}

/// Repairs a call or a piece of one. `tool_calls` adds missing fields, because it knows the other
/// calls.
fn tool_call(call: &mut Map<String, Value>, whole: bool) {
    if !whole {
        let index = call
            .get("index")
            .and_then(number)
            .and_then(|index| u32::try_from(index).ok());
        call.insert("index".to_owned(), json!(index.unwrap_or(NO_INDEX)));
    }
    match call.get("id") {
        Some(Value::String(_)) => {}
        Some(Value::Number(id)) => drop(call.insert("id".to_owned(), json!(id.to_string()))),
        _ => drop(call.remove("id")),
    }
    if !call.get("type").is_some_and(Value::is_string) {
        call.remove("type");
    }
    if !call.get("function").is_some_and(Value::is_object) {
        // Some engines omit the object `function`.
        let own = ["name", "arguments"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), call.remove(key)?)));
        let own: Map<String, Value> = own.collect();
        call.insert("function".to_owned(), Value::Object(own));
    }
    if let Some(Value::Object(called)) = call.get_mut("function") {
        function(called, whole);
    }
    if whole {
        call.entry("id").or_insert(json!(""));
        call.insert("type".to_owned(), json!("function"));
    }
}

fn function(function: &mut Map<String, Value>, whole: bool) {
    if !function.get("name").is_some_and(Value::is_string) {
        function.remove("name");
    }
    match function.get_mut("arguments") {
        None | Some(Value::String(_)) => {}
        Some(Value::Null) => drop(function.remove("arguments")),
        // Ollama's form of arguments is a JSON object, not a string.
        Some(arguments) => *arguments = json!(arguments.to_string()),
    }
    if whole {
        for key in ["name", "arguments"] {
            function.entry(key).or_insert(json!(""));
        }
    }
}

/// Returns an integer, which may be written as a float or a string.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number
                .as_f64()
                .filter(|float| *float >= 0.0 && float.fract() == 0.0)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the value is an integer; larger ones saturate"
            )]
            Some(float as u64)
        }),
        _ => None,
    }
}

fn finish_reason(reason: &mut Value) {
    *reason = match reason.as_str() {
        Some("stop" | "length" | "tool_calls" | "content_filter" | "function_call") => return,
        Some("" | "null" | "None") => Value::Null,
        Some("abort" | "error" | "cancelled") => json!(ABORTED),
        Some("max_tokens" | "max_length" | "model_length" | "MAX_TOKENS") => json!("length"),
        Some("tool_call" | "tool_use") => json!("tool_calls"),
        Some("safety" | "SAFETY") => json!("content_filter"),
        None if matches!(reason, Value::Null | Value::Bool(false)) => Value::Null,
        // `eos_token`, `stop_sequence`, `end_turn`, …: each engine has its own word for a normal
        // end.
        _ => json!("stop"),
    };
}

/// The engine gave up (vLLM's `abort`). OpenAI has no such `finish_reason`, so it becomes an error.
const ABORTED: &str = "abort";

fn was_aborted(choice: &Value) -> bool {
    choice.get("finish_reason").and_then(Value::as_str) == Some(ABORTED)
}

fn no_null_logprob(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key == "logprob" && value.is_null() {
                    *value = json!(IMPOSSIBLE);
                } else {
                    no_null_logprob(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(no_null_logprob),
        _ => {}
    }
}

/// Takes the usage out of a choice, where some engines (Moonshot) put it.
pub(super) fn usage_within(choice: &mut ChunkChoice) -> Option<CompletionUsage> {
    if choice.extra.is_empty() {
        return None;
    }
    let mut counts = choice.extra.remove("usage")?;
    usage(&mut counts);
    serde_json::from_value(counts).ok()
}

/// Repairs the usage. Invalid counts become unknown, so that the answer is not lost.
fn usage(usage: &mut Value) {
    let Value::Object(counts) = usage else {
        *usage = Value::Null;
        return;
    };
    for details in counts.values_mut().filter_map(Value::as_object_mut) {
        details.retain(|_, count| !count.is_null());
    }
    for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        match counts.get(name).map(number) {
            Some(Some(count)) => drop(counts.insert(name.to_owned(), json!(count))),
            Some(None) => drop(counts.remove(name)),
            None => {}
        }
    }
    let count = |name: &str| counts.get(name).and_then(Value::as_u64);
    if let (Some(prompt), Some(completion)) = (count("prompt_tokens"), count("completion_tokens")) {
        counts
            .entry("total_tokens")
            .or_insert(json!(prompt.saturating_add(completion)));
    }
    if serde_json::from_value::<CompletionUsage>(usage.clone()).is_err() {
        *usage = Value::Null;
    }
}
