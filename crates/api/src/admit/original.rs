//! The profile `original`: converts what the middleware of 2024 accepted to what OpenAI's API
//! accepts.

use serde_json::{Map, Value};

/// Rewrites a body as the original would have read it. It skipped stop strings that were not
/// strings, ignored all formats but `json_object`, and read `presence_penalty` from a misspelled
/// key.
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
