//! Bytes → a chat request, checked once; and what a request for completions shares with it.

use std::sync::Arc;

use loggia_backend::Profile;
use loggia_wire::Once;
use loggia_wire::openai::{
    ChatCompletionRequest, FunctionDefinition, ResponseFormat, Stop, ToolChoice,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admit::ceilings;
use crate::admit::messages;
use crate::admit::original;
use crate::{ApiError, Policy};

/// The most stop strings, as in OpenAI's API.
pub const MAX_STOP_STRINGS: usize = 4;

/// Parses and checks the body of `POST /v1/chat/completions`; gives back the profile of its model
/// too.
///
/// # Errors
/// A 400 with the path of the field at fault in `param`.
pub fn parse_chat(
    body: &[u8],
    policy: &Policy,
) -> Result<(Arc<ChatCompletionRequest>, Profile), ApiError> {
    let profile = profile_of(body, policy);
    // A request takes a kilobyte, so it is put into its place at once.
    let mut request: Arc<ChatCompletionRequest> = match profile {
        // To check the whole body for UTF-8 takes less than to check string by string, as
        // `from_slice` does, and keeping track of the path nearly doubles the work: only where
        // something is wrong.
        Profile::Openai => match str::from_utf8(body).map(serde_json::from_str) {
            Ok(Ok(request)) => request,
            _ => Arc::new(tracked(body)?),
        },
        Profile::Original => {
            let Once(mut fields): Once<Value> = match serde_json::from_slice(body) {
                Ok(fields) => fields,
                Err(_) => tracked(body)?,
            };
            if let Some(fields) = fields.as_object_mut() {
                original::as_the_original_read(fields);
            }
            Arc::new(typed(fields)?)
        }
    };
    check(&request)?;
    // The original took whatever stood in a message.
    if profile == Profile::Openai {
        messages::check(&request.messages)?;
    }
    ceilings::check(&request, &policy.ceilings)?;
    if let Some(stop) = &mut Arc::make_mut(&mut request).stop {
        drop_empty(stop);
    }
    Ok((request, profile))
}

/// An empty stop string asks for nothing; an engine would find it at once, everywhere.
pub(crate) fn drop_empty(stop: &mut Stop) {
    stop.0.retain(|string| !string.is_empty());
}

/// How the sampling fields of this body are read.
pub(crate) fn profile_of(body: &[u8], policy: &Policy) -> Profile {
    if policy.models.is_empty() {
        policy.profile
    } else {
        policy.profile_of(&model_of(body))
    }
}

/// A body as a request, with the path of the field at fault where it is none.
pub(crate) fn tracked<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = typed(&mut json)?;
    json.end().map_err(|error| broken(&error))?;
    Ok(request)
}

/// The model's name, for the profile alone; whatever is wrong with the body is found when it is
/// parsed.
fn model_of(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    struct Model {
        #[serde(default)]
        model: String,
    }
    serde_json::from_slice::<Model>(body)
        .unwrap_or_default()
        .model
}

fn typed<'de, T, D>(json: D) -> Result<T, ApiError>
where
    T: Deserialize<'de>,
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

/// JSON of another shape: OpenAI's codes for a missing field, a wrong type, a value it does not
/// know.
fn wrong(path: &str, error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return broken(error);
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    let path = if path == "." { "" } else { path };
    if let Some(field) = text
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return missing(if path.is_empty() {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        });
    }
    if let Some(field) = text
        .strip_prefix("duplicate field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        let param = if path.is_empty() {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        };
        let message = format!("Duplicate parameter: '{param}' is there twice; send it once.");
        return ApiError::invalid(param, "duplicate_parameter", message);
    }
    if let Some(field) = text
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next())
    {
        return ApiError::unknown(&format!("{path}.{field}"));
    }
    for (what, within) in [("unknown variant `", ""), ("unknown type `", ".type")] {
        if let Some((word, known)) = text
            .strip_prefix(what)
            .and_then(|rest| rest.rsplit_once("`, expected "))
        {
            let known = known
                .trim_start_matches("one of ")
                .replace(" or ", ", ")
                .replace('`', "'");
            let message = format!("Invalid value: '{word}'. Supported values are: {known}.");
            return ApiError::invalid(format!("{path}{within}"), "invalid_value", message);
        }
    }
    if path.is_empty() {
        let message = format!("The body of the request must be a JSON object: {text}.");
        return ApiError::new(http::StatusCode::BAD_REQUEST, message).coded("invalid_type");
    }
    ApiError::invalid(
        path,
        "invalid_type",
        format!("Invalid value for '{path}': {}.", in_jsons_words(text)),
    )
}

pub(crate) fn missing(param: String) -> ApiError {
    let message = format!("Missing required parameter: '{param}'.");
    ApiError::invalid(param, "missing_required_parameter", message)
}

/// What was expected, as JSON names it and not Rust.
fn in_jsons_words(text: &str) -> String {
    let integer = if text.starts_with("invalid value: integer") {
        "an integer of 64 bits"
    } else {
        "an integer"
    };
    let words = [
        ("i64", integer),
        ("f64", "a number"),
        ("u32", "a token id, an integer of at least 0"),
        ("a sequence", "an array"),
        ("a map", "an object"),
    ];
    let expected = words
        .iter()
        .find_map(|(rust, json)| Some((text.strip_suffix(rust)?, json)));
    expected.map_or_else(
        || text.to_owned(),
        |(before, json)| format!("{before}{json}"),
    )
}

fn check(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "empty_array",
            "[] is too short - 'messages'",
        ));
    }
    check_model(&request.model)?;
    check_sampling(request)?;
    between("max_tokens", request.max_tokens, 1, i64::from(u32::MAX))?;
    between(
        "max_completion_tokens",
        request.max_completion_tokens,
        1,
        i64::from(u32::MAX),
    )?;
    between("top_logprobs", request.top_logprobs, 0, 20)?;
    check_functions(request)?;
    check_format(request)?;
    check_together(request)
}

/// No model is named by nothing. OpenAI's own words.
pub(crate) fn check_model(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid(
            "model",
            "missing_required_parameter",
            "you must provide a model parameter",
        ));
    }
    Ok(())
}

/// What a request for completions has too.
pub(crate) fn check_sampling(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    within("temperature", request.temperature, 0.0, 2.0)?;
    within("top_p", request.top_p, 0.0, 1.0)?;
    within("presence_penalty", request.presence_penalty, -2.0, 2.0)?;
    within("frequency_penalty", request.frequency_penalty, -2.0, 2.0)?;
    between("n", request.n, 1, 128)?;
    for (token, &bias) in request.logit_bias.iter().flatten() {
        within(&format!("logit_bias.{token}"), Some(bias), -100.0, 100.0)?;
    }
    let stops = request.stop.as_ref().map_or(0, |stop| stop.0.len());
    if stops > MAX_STOP_STRINGS {
        return Err(too_long("stop", MAX_STOP_STRINGS, stops));
    }
    Ok(())
}

fn check_functions(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    for (index, tool) in request.tools.iter().flatten().enumerate() {
        let place = format!("tools[{index}].function");
        match &tool.function {
            // What another type of tool has to be is not known here.
            _ if tool.kind != "function" => {}
            Some(function) => check_function(&place, function)?,
            None => return Err(missing(place)),
        }
    }
    for (index, function) in request.functions.iter().flatten().enumerate() {
        check_function(&format!("functions[{index}]"), function)?;
    }
    Ok(())
}

fn check_function(place: &str, function: &FunctionDefinition) -> Result<(), ApiError> {
    check_name(&format!("{place}.name"), &function.name)?;
    is_object(&format!("{place}.parameters"), function.parameters.as_ref())
}

fn check_format(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    let Some(ResponseFormat::JsonSchema(format)) = &request.response_format else {
        return Ok(());
    };
    check_name("response_format.json_schema.name", &format.name)?;
    is_object("response_format.json_schema.schema", format.schema.as_ref())
}

/// Names of functions and schemas are 1 to 64 letters, digits, underscores and dashes.
fn check_name(param: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        let message =
            format!("Invalid '{param}': empty string. Expected a string with minimum length 1.");
        return Err(ApiError::invalid(param, "empty_string", message));
    }
    if name.len() > 64 {
        let message = format!(
            "Invalid '{param}': string too long. Expected a string with maximum length 64."
        );
        return Err(ApiError::invalid(param, "string_above_max_length", message));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        );
        return Err(ApiError::invalid(param, "invalid_value", message));
    }
    Ok(())
}

fn is_object(param: &str, value: Option<&Value>) -> Result<(), ApiError> {
    if value.is_none_or(Value::is_object) {
        return Ok(());
    }
    Err(ApiError::invalid(
        param,
        "invalid_type",
        format!("Invalid type for '{param}': expected an object."),
    ))
}

/// Fields that need one another. What else does not go together is settled in `together.rs`.
fn check_together(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if request.top_logprobs.is_some() && request.logprobs != Some(true) {
        let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
        return Err(ApiError::invalid("top_logprobs", "invalid_value", message));
    }
    check_choice(request)?;
    check_function_call(request)
}

/// What `tool_choice` names must be offered.
fn check_choice(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    // A choice where nothing is offered at all is settled later.
    let has_none = request.tools.as_ref().is_none_or(Vec::is_empty);
    let named = match &request.tool_choice {
        _ if has_none => return Ok(()),
        Some(ToolChoice::Function(one)) => std::slice::from_ref(one),
        Some(ToolChoice::Allowed { functions, .. }) => functions.as_slice(),
        _ => return Ok(()),
    };
    let offered = request
        .tools
        .iter()
        .flatten()
        .filter_map(|tool| tool.function.as_ref());
    let offered: Vec<&str> = offered.map(|function| function.name.as_str()).collect();
    match named
        .iter()
        .find(|one| !offered.contains(&one.name.as_str()))
    {
        Some(missing) => {
            let message = format!(
                "Invalid value for 'tool_choice': no function named '{}' was specified in 'tools'.",
                missing.name
            );
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        None => Ok(()),
    }
}

/// `"none"`, `"auto"`, or a function among `functions`.
fn check_function_call(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    let has_none = request.functions.as_ref().is_none_or(Vec::is_empty);
    let name = match &request.function_call {
        None => return Ok(()),
        Some(Value::Object(_)) if has_none => return Ok(()),
        Some(Value::String(word)) if word == "none" || word == "auto" => return Ok(()),
        Some(call) => call.get("name").and_then(Value::as_str),
    };
    if request
        .functions
        .iter()
        .flatten()
        .any(|function| Some(function.name.as_str()) == name)
    {
        let fields = request.function_call.as_ref().and_then(Value::as_object);
        let odd = fields.and_then(|fields| fields.keys().find(|field| *field != "name"));
        return odd.map_or(Ok(()), |field| {
            Err(ApiError::unknown(&format!("function_call.{field}")))
        });
    }
    let message = "Invalid value for 'function_call': expected 'none', 'auto', or an object with the name of one of 'functions'.";
    Err(ApiError::invalid("function_call", "invalid_value", message))
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

pub(crate) fn between(
    param: &str,
    value: Option<i64>,
    least: i64,
    most: i64,
) -> Result<(), ApiError> {
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
