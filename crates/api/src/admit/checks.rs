//! Checks shared by all kinds of requests, with OpenAI's codes and messages for a missing field, a
//! number out of range, a string or an array that is too long, and a value that is not in a list.

use std::fmt::Display;

use loggia_wire::openai::Stop;
use serde_json::Value;

use crate::{ApiError, Strictness};

pub(crate) fn missing(param: String) -> ApiError {
    let message = format!("Missing required parameter: '{param}'.");
    ApiError::invalid(param, "missing_required_parameter", message)
}

/// Refuses an empty model name, with OpenAI's own message.
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

/// Checks a name of a function or schema: 1 to 64 letters, digits, underscores and dashes.
pub(crate) fn check_name(param: &str, name: &str) -> Result<(), ApiError> {
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

pub(crate) fn is_object(param: &str, value: Option<&Value>) -> Result<(), ApiError> {
    if value.is_none_or(Value::is_object) {
        return Ok(());
    }
    Err(ApiError::invalid(
        param,
        "invalid_type",
        format!("Invalid type for '{param}': expected an object."),
    ))
}

pub(crate) fn within(
    param: &str,
    value: Option<f64>,
    least: f64,
    most: f64,
) -> Result<(), ApiError> {
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

/// Returns the names of unknown fields, to be listed as ignored.
///
/// # Errors
/// A 400 about the first one in strict mode.
pub(crate) fn listed_unless_strict(
    names: Vec<String>,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    match names.first() {
        Some(first) if strictness == Strictness::Strict => Err(ApiError::unknown(first)),
        _ => Ok(names),
    }
}

/// Checks the length of an array that must not be empty. `elements` names its elements.
pub(crate) fn has_1_to(
    most: usize,
    param: &str,
    elements: &str,
    length: usize,
) -> Result<(), ApiError> {
    if (1..=most).contains(&length) {
        return Ok(());
    }
    let code = if length == 0 {
        "empty_array"
    } else {
        "array_above_max_length"
    };
    let message = format!("Invalid '{param}': expected 1 to {most} {elements}, but got {length}.");
    Err(ApiError::invalid(param, code, message))
}

pub(crate) fn too_long(param: &str, most: usize, length: usize) -> ApiError {
    let message = format!(
        "Invalid '{param}': array too long. Expected an array with maximum length {most}, but got an array with length {length} instead."
    );
    ApiError::invalid(param, "array_above_max_length", message)
}

/// Removes empty stop strings, which have no effect. An engine would match them at once,
/// everywhere.
pub(crate) fn drop_empty(stop: &mut Stop) {
    stop.0.retain(|string| !string.is_empty());
}

pub(crate) fn one_of(
    param: impl Display,
    word: Option<&str>,
    known: &[&str],
) -> Result<(), ApiError> {
    match word.filter(|word| !known.contains(word)) {
        Some(word) => Err(not_among(param, word, known)),
        None => Ok(()),
    }
}

/// Creates the error for an unknown word.
pub(crate) fn not_among(param: impl Display, word: &str, known: &[&str]) -> ApiError {
    let message = format!(
        "Invalid value: '{word}'. Supported values are: '{}'.",
        known.join("', '")
    );
    ApiError::invalid(param.to_string(), "invalid_value", message)
}
