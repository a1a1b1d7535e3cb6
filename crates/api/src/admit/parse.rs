//! Parses a request of any kind. Errors have the path of the invalid field.

use std::sync::Arc;

use loggia_backend::Profile;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::admit::checks::missing;
use crate::{ApiError, Policy};

/// Returns the profile for this body.
pub(crate) fn profile_of(body: &[u8], policy: &Policy) -> Profile {
    if policy.models.is_empty() {
        policy.profile
    } else {
        policy.profile_of(&model_of(body))
    }
}

/// Parses a body. Checking the complete body for UTF-8 is faster than checking each string, as
/// `from_slice` does. Tracking the path nearly doubles the time, so it is done only after an error.
pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    match str::from_utf8(body).map(serde_json::from_str) {
        Ok(Ok(request)) => Ok(request),
        _ => tracked(body),
    }
}

/// Parses a body into shared memory. serde's own implementation for [`Arc`] creates a box first and
/// copies it.
pub(crate) fn parsed_shared<T: DeserializeOwned>(body: &[u8]) -> Result<Arc<T>, ApiError> {
    struct Shared<T>(Arc<T>);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            T::deserialize(deserializer).map(|value| Self(Arc::new(value)))
        }
    }
    parsed::<Shared<T>>(body).map(|shared| shared.0)
}

/// Parses a body. Errors have the path of the invalid field.
pub(crate) fn tracked<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = typed(&mut json)?;
    json.end().map_err(|error| broken(&error))?;
    Ok(request)
}

/// Returns the model name, only for the profile. Errors in the body are found when it is parsed.
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

pub(crate) fn typed<'de, T, D>(json: D) -> Result<T, ApiError>
where
    T: Deserialize<'de>,
    D: Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })
}

/// Returns the error with the path of the value in the whole request: `place` is the path of the
/// parsed value, and the path in `error` is relative to it.
pub(crate) fn wrong_at(place: &str, error: ApiError) -> ApiError {
    let Some(path) = error.error.param.clone() else {
        let message = format!("Invalid value for '{place}': it has the wrong type.");
        return ApiError::invalid(place, "invalid_type", message);
    };
    let between = if path.starts_with('[') { "" } else { "." };
    let whole = format!("{place}{between}{path}");
    let mut error = error.about(whole.clone());
    let (before, after) = (format!("'{path}'"), format!("'{whole}'"));
    error.error.message = error.error.message.replace(&before, &after);
    error
}

/// Returns the error for invalid JSON.
fn broken(error: &serde_json::Error) -> ApiError {
    let message = format!("We could not parse the JSON body of your request: {error}.");
    ApiError::new(http::StatusCode::BAD_REQUEST, message)
}

/// Returns the error for JSON that does not match the type, with OpenAI's codes for a missing
/// field, a wrong type and an unknown value.
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
        let message = format!("Duplicate parameter: '{param}' occurs twice; send it once.");
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

/// Rewrites the expected type in the words of JSON instead of Rust.
fn in_jsons_words(text: &str) -> String {
    if let Some((before, _name)) = text.split_once("expected struct ") {
        return format!("{before}expected an object");
    }
    let integer = if text.starts_with("invalid value: integer") {
        "an integer of 64 bits"
    } else {
        "an integer"
    };
    let words = [
        ("i64", integer),
        ("f64", "a number"),
        ("u32", "a token id, an integer of at least 0"),
        ("u64", "an integer of at least 0"),
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
