//! The `metadata` of stored objects, within OpenAI's limits.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ApiError;
use crate::admit::allowed_values;
use crate::store::Metadata;

/// Returns the metadata as it is stored.
///
/// # Errors
/// A 400 for a value that is not a string, and for metadata beyond OpenAI's limits.
pub(crate) fn checked(metadata: Option<BTreeMap<String, Value>>) -> Result<Metadata, ApiError> {
    let metadata = metadata.unwrap_or_default();
    allowed_values::check_metadata(&metadata)?;
    let text = |(name, value)| match value {
        Value::String(value) => Some((name, value)),
        // The check above refuses such values.
        _ => None,
    };
    Ok(metadata.into_iter().filter_map(text).collect())
}
