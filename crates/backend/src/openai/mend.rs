//! Makes regular what engines send irregularly, so that it can be read as OpenAI's types.
//!
//! Run only on what could not be read at once. What it does not know it leaves alone.

use serde_json::{Map, Value, json};

/// What stands for a log-probability of minus infinity, which JSON cannot say: OpenAI's own value.
const IMPOSSIBLE: f64 = -9999.0;

/// A `chat.completion.chunk`.
pub(super) fn chunk(value: &mut Value) {
    answer(value, "delta");
}

/// A `chat.completion`.
pub(super) fn completion(value: &mut Value) {
    let Value::Object(object) = value else { return };
    for (key, absent) in [("id", json!("")), ("object", json!("chat.completion")), ("model", json!(""))] {
        if !object.get(key).is_some_and(Value::is_string) {
            object.insert(key.to_owned(), absent);
        }
    }
    answer(value, "message");
    if let Value::Object(object) = value {
        object.entry("created").or_insert(json!(0));
    }
}

/// `said` is the field of a choice that holds what was said: `delta` or `message`.
fn answer(value: &mut Value, said: &str) {
    let Value::Object(object) = value else { return };
    match object.get("created").map(Value::as_f64) {
        Some(Some(seconds)) if seconds >= 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it saturates, and it is a date"
            )]
            object.insert("created".to_owned(), json!(seconds as u64));
        }
        Some(_) => drop(object.remove("created")),
        None => {}
    }
    if !object.get("system_fingerprint").is_some_and(Value::is_string) {
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
            object.insert("error".to_owned(), json!({"message": "the engine gave up before the answer was whole"}));
        }
    }
    if let Some(counts) = object.get_mut("usage") {
        usage(counts);
    }
}

fn choice(choice: &mut Value, position: usize, said: &str) {
    let Value::Object(choice) = choice else { return };
    index(choice, position);
    if let Some(reason) = choice.get_mut("finish_reason") {
        finish_reason(reason);
    }
    if let Some(logprobs) = choice.get_mut("logprobs") {
        no_null_logprob(logprobs);
    }
    let said_value = choice.entry(said).or_insert(Value::Null);
    if said_value.is_null() {
        *said_value = json!({});
    }
    if let Value::Object(message) = said_value {
        text(message, said == "message");
        for (position, call) in
            message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            tool_call(call, position, said == "message");
        }
        if message.get("tool_calls").is_some_and(|calls| !calls.is_array()) {
            message.remove("tool_calls");
        }
    }
}

/// Role and content. A whole message must have a role, a delta need not.
fn text(message: &mut Map<String, Value>, whole: bool) {
    if whole {
        message.insert("role".to_owned(), json!("assistant"));
    } else {
        message.remove("role");
    }
    if let Some(parts) = message.get("content").and_then(Value::as_array) {
        let text: String = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
        message.insert("content".to_owned(), json!(text));
    }
}

fn tool_call(call: &mut Value, position: usize, whole: bool) {
    let Value::Object(call) = call else { return };
    if !whole {
        index(call, position);
    }
    if let Some(Value::Object(function)) = call.get_mut("function")
        && let Some(arguments) = function.get("arguments")
        && !arguments.is_string()
    {
        // Ollama's form of arguments: JSON itself, not JSON in a string.
        let arguments = if arguments.is_null() { String::new() } else { arguments.to_string() };
        function.insert("arguments".to_owned(), json!(arguments));
    }
    if whole {
        if !call.get("id").is_some_and(Value::is_string) {
            call.insert("id".to_owned(), json!(format!("call_{position}")));
        }
        call.insert("type".to_owned(), json!("function"));
    }
}

fn index(object: &mut Map<String, Value>, position: usize) {
    if !object.get("index").is_some_and(Value::is_u64) {
        object.insert("index".to_owned(), json!(position));
    }
}

fn finish_reason(reason: &mut Value) {
    let Some(word) = reason.as_str() else { return };
    *reason = match word {
        "" => Value::Null,
        "stop" | "length" | "tool_calls" | "content_filter" | "function_call" => return,
        "abort" | "error" | "cancelled" => json!(ABORTED),
        "max_tokens" | "max_length" | "model_length" => json!("length"),
        "tool_call" | "tool_use" => json!("tool_calls"),
        // `eos_token`, `stop_sequence`, `end_turn`, …: every engine has a word of its own for an end by itself.
        _ => json!("stop"),
    };
}

/// No `finish_reason` of OpenAI's says that the engine gave up (vLLM's `abort`), so it becomes an error.
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

/// Counts that cannot be read are unknown, which is no reason to lose an answer.
fn usage(usage: &mut Value) {
    let Value::Object(counts) = usage else {
        *usage = Value::Null;
        return;
    };
    for details in counts.values_mut().filter_map(Value::as_object_mut) {
        details.retain(|_, count| !count.is_null());
    }
    let count = |name: &str| counts.get(name).and_then(Value::as_u64);
    if let (Some(prompt), Some(completion)) = (count("prompt_tokens"), count("completion_tokens")) {
        counts.entry("total_tokens").or_insert(json!(prompt.saturating_add(completion)));
    }
    if serde_json::from_value::<loggia_wire::openai::CompletionUsage>(usage.clone()).is_err() {
        *usage = Value::Null;
    }
}
