//! Bytes → a chat request, checked once.

use loggia_backend::Profile;
use loggia_wire::openai::ChatCompletionRequest;
use serde::Deserialize;
use serde_json::Value;

use crate::{ApiError, Policy, ceilings, original};

/// The most stop strings, as in OpenAI's API.
pub const MAX_STOP_STRINGS: usize = 4;

/// Parses and checks the body of `POST /v1/chat/completions`; gives back the profile of its model too.
///
/// # Errors
/// A 400 with the path of the field at fault in `param`.
pub fn parse_chat(body: &[u8], policy: &Policy) -> Result<(ChatCompletionRequest, Profile), ApiError> {
    let profile = if policy.profiles.is_empty() { policy.profile } else { policy.profile_of(&model_of(body)) };
    let request = match profile {
        // Keeping track of the path nearly doubles the work: only where something is wrong.
        Profile::Openai => match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(_) => tracked(body)?,
        },
        Profile::Original => {
            let mut fields: Value = serde_json::from_slice(body).map_err(|error| broken(&error))?;
            if let Some(fields) = fields.as_object_mut() {
                original::as_the_original_read(fields);
            }
            typed(fields)?
        }
    };
    check(&request)?;
    ceilings::check(&request, &policy.ceilings)?;
    Ok((request, profile))
}

/// As it is parsed otherwise, with the path of the field at fault.
fn tracked(body: &[u8]) -> Result<ChatCompletionRequest, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = typed(&mut json)?;
    json.end().map_err(|error| broken(&error))?;
    Ok(request)
}

/// The model's name, for the profile alone; whatever is wrong with the body is found when it is parsed.
fn model_of(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    struct Model {
        #[serde(default)]
        model: String,
    }
    serde_json::from_slice::<Model>(body).unwrap_or_default().model
}

fn typed<'de, D>(json: D) -> Result<ChatCompletionRequest, ApiError>
where
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })
}

/// JSON that is none.
fn broken(error: &serde_json::Error) -> ApiError {
    let message = format!("We could not parse the JSON body of your request: {error}.");
    ApiError::new(http::StatusCode::BAD_REQUEST, message)
}

/// JSON of another shape: OpenAI's codes for a missing field, a wrong type, a value it does not know.
fn wrong(path: &str, error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return broken(error);
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let path = if path == "." { "" } else { path };
    if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let param = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        return ApiError::invalid(
            &param,
            "missing_required_parameter",
            format!("Missing required parameter: '{param}'."),
        );
    }
    let code = if text.starts_with("unknown variant") { "invalid_value" } else { "invalid_type" };
    if path.is_empty() {
        let message = format!("The body of the request must be a JSON object: {text}.");
        return ApiError::new(http::StatusCode::BAD_REQUEST, message).coded(code);
    }
    ApiError::invalid(path, code, format!("Invalid value for '{path}': {text}."))
}

fn check(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::invalid("messages", "empty_array", "[] is too short - 'messages'"));
    }
    within("temperature", request.temperature, 0.0, 2.0)?;
    within("top_p", request.top_p, 0.0, 1.0)?;
    within("presence_penalty", request.presence_penalty, -2.0, 2.0)?;
    within("frequency_penalty", request.frequency_penalty, -2.0, 2.0)?;
    between("max_tokens", request.max_tokens, 1, i64::from(u32::MAX))?;
    between("max_completion_tokens", request.max_completion_tokens, 1, i64::from(u32::MAX))?;
    between("n", request.n, 1, 128)?;
    between("top_logprobs", request.top_logprobs, 0, 20)?;
    for (token, &bias) in request.logit_bias.iter().flatten() {
        within(&format!("logit_bias.{token}"), Some(bias), -100.0, 100.0)?;
    }
    let stops = request.stop.as_ref().map_or(0, |stop| stop.0.len());
    if stops > MAX_STOP_STRINGS {
        return Err(too_long("stop", MAX_STOP_STRINGS, stops));
    }
    check_together(request)
}

/// Fields that need one another.
fn check_together(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if request.top_logprobs.is_some() && request.logprobs != Some(true) {
        let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
        return Err(ApiError::invalid("top_logprobs", "invalid_value", message));
    }
    if request.stream_options.is_some() && !request.streams() {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid("stream_options", "invalid_value", message));
    }
    if request.tool_choice.is_some() && request.tools.as_ref().is_none_or(Vec::is_empty) {
        let message = "'tool_choice' is only allowed when 'tools' are specified.";
        return Err(ApiError::invalid("tool_choice", "invalid_value", message));
    }
    Ok(())
}

fn within(param: &str, value: Option<f64>, least: f64, most: f64) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    if value < least {
        let message = format!(
            "Invalid '{param}': decimal below minimum value. Expected a value >= {least}, but got {value} instead."
        );
        return Err(ApiError::invalid(param, "decimal_below_min_value", message));
    }
    if value > most {
        let message = format!(
            "Invalid '{param}': decimal above maximum value. Expected a value <= {most}, but got {value} instead."
        );
        return Err(ApiError::invalid(param, "decimal_above_max_value", message));
    }
    Ok(())
}

fn between(param: &str, value: Option<i64>, least: i64, most: i64) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    if value < least {
        let message = format!(
            "Invalid '{param}': integer below minimum value. Expected a value >= {least}, but got {value} instead."
        );
        return Err(ApiError::invalid(param, "integer_below_min_value", message));
    }
    if value > most {
        let message = format!(
            "Invalid '{param}': integer above maximum value. Expected a value <= {most}, but got {value} instead."
        );
        return Err(ApiError::invalid(param, "integer_above_max_value", message));
    }
    Ok(())
}

pub(crate) fn too_long(param: &str, most: usize, length: usize) -> ApiError {
    let message = format!(
        "Invalid '{param}': array too long. Expected an array with maximum length {most}, but got an array with length {length} instead."
    );
    ApiError::invalid(param, "array_above_max_length", message)
}
