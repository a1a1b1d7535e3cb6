//! The profile `original`: what the 2024 middleware let pass, made into what OpenAI's API takes.

use serde_json::{Map, Value};

/// Rewrites a body as the original would have read it: stop strings that are no strings were
/// skipped, any other format than `json_object` was ignored, and `presence_penalty` was read from a
/// mistyped key.
pub(crate) fn as_the_original_read(body: &mut Map<String, Value>) {
    if let Some(Value::Array(stop)) = body.get_mut("stop") {
        stop.retain(Value::is_string);
    }
    let wants_json =
        |format: &Value| format.get("type").and_then(Value::as_str) == Some("json_object");
    if body
        .get("response_format")
        .is_some_and(|format| !wants_json(format))
    {
        body.remove("response_format");
    }
    if let Some(penalty) = body.remove("presence_penalty_penalty") {
        body.insert("presence_penalty".to_owned(), penalty);
    }
}
