//! What `--lenient` does with a request for a response that lacks the model or the input, or has
//! too much.

use loggia_backend::Backend;
use loggia_wire::openai::responses::{Input, ResponseRequest};
use serde_json::Value;

/// Parses a request that has no model.
pub(crate) fn without_model(body: &[u8]) -> Option<ResponseRequest> {
    let mut request: Value = serde_json::from_slice(body).ok()?;
    let fields = request.as_object_mut()?;
    let model = fields.entry("model").or_insert(Value::Null);
    if model.is_null() {
        *model = Value::String(String::new());
    }
    serde_json::from_value(request).ok()
}

/// Completes a request: the first model that the backend lists, an empty input. Returns the names
/// of the fields that it drops: a template of OpenAI's, and a response beside a conversation.
pub(crate) async fn complete(
    request: &mut ResponseRequest,
    backend: &dyn Backend,
) -> Vec<&'static str> {
    if request.model.is_empty()
        && let Ok(models) = backend.models().await
        && let Some(first) = models.into_iter().next()
    {
        request.model = first.id;
    }
    let mut dropped = Vec::new();
    if request.prompt.take().is_some() {
        dropped.push("prompt");
    }
    if request.conversation.is_some() && request.previous_response_id.take().is_some() {
        dropped.push("previous_response_id");
    }
    let goes_on = request.conversation.is_some() || request.previous_response_id.is_some();
    if request.input.is_none() && !goes_on {
        request.input = Some(Input::Text(String::new()));
    }
    dropped
}
