//! The attributes of a file in a vector store, within OpenAI's limits.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::ApiError;

/// The maximum number of attributes of a file, and the longest names and texts in characters.
const MOST: usize = 16;
const LONGEST_NAME: usize = 64;
const LONGEST_TEXT: usize = 512;

/// Returns attributes in the form in which they are stored.
///
/// # Errors
///
/// A 400 for a value that is neither a text, a number nor a boolean, and for attributes that exceed
/// OpenAI's limits. `param` is the path of the attributes in the request.
pub(super) fn checked(
    param: &str,
    attributes: Option<BTreeMap<String, Value>>,
) -> Result<Map<String, Value>, ApiError> {
    let attributes = attributes.unwrap_or_default();
    if attributes.len() > MOST {
        let message = format!(
            "Invalid '{param}': too many properties. Expected an object with at most {MOST} properties."
        );
        return Err(ApiError::invalid(
            param,
            "object_above_max_properties",
            message,
        ));
    }
    for (name, value) in &attributes {
        let place = format!("{param}.{name}");
        let too_long = |most: usize| {
            let message = format!(
                "Invalid '{place}': string too long. Expected a string with maximum length {most}."
            );
            ApiError::invalid(&place, "string_above_max_length", message)
        };
        if name.chars().count() > LONGEST_NAME {
            return Err(too_long(LONGEST_NAME));
        }
        match value {
            Value::String(text) if text.chars().count() > LONGEST_TEXT => {
                return Err(too_long(LONGEST_TEXT));
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {}
            _ => {
                let message = format!(
                    "Invalid type for '{place}': expected a string, a number or a boolean."
                );
                return Err(ApiError::invalid(&place, "invalid_type", message));
            }
        }
    }
    Ok(attributes.into_iter().collect())
}
