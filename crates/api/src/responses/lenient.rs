//! `--lenient`: completes or corrects a request for a response that lacks the model or the input,
//! or has too much.

use http::request::Parts;
use loggia_wire::Once;
use loggia_wire::openai::responses::{Input, ResponseRequest};
use serde_json::Value;

use crate::admit::parse::{parsed, tracked, typed};
use crate::{ApiError, Door, Strictness};

impl Door {
    /// Parses a request for a response. Under `--lenient`, completes it. Returns the names of the
    /// fields that it drops, too.
    pub(crate) async fn read_response(
        &self,
        parts: &Parts,
        body: &[u8],
    ) -> Result<(ResponseRequest, Vec<&'static str>), ApiError> {
        let is_lenient = |model| self.strictness_for(parts, model) == Strictness::Lenient;
        let mut request = match parsed::<ResponseRequest>(body) {
            Err(error) if is_lenient("") => without_model(body)?.ok_or(error)?,
            read => read?,
        };
        if !is_lenient(&request.model) {
            return Ok((request, Vec::new()));
        }
        if request.model.is_empty()
            && let Ok(models) = self.backend.models().await
            && let Some(first) = models.into_iter().next()
        {
            request.model = first.id;
        }
        let dropped = complete(&mut request);
        Ok((request, dropped))
    }
}

/// Parses a request that has no model. `None` if it has one.
///
/// # Errors
/// Returns a 400 about the invalid field, which can be a duplicate one.
fn without_model(body: &[u8]) -> Result<Option<ResponseRequest>, ApiError> {
    let Once(mut request) = tracked::<Once<Value>>(body)?;
    let Some(fields) = request.as_object_mut() else {
        return Ok(None);
    };
    if fields.get("model").is_some_and(|model| !model.is_null()) {
        return Ok(None);
    }
    fields.insert("model".to_owned(), Value::String(String::new()));
    typed(request).map(Some)
}

/// Adds an empty input if the request has nothing to answer. Drops `prompt`, and a
/// `previous_response_id` beside a `conversation`.
fn complete(request: &mut ResponseRequest) -> Vec<&'static str> {
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
