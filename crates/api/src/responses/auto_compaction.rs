//! `context_management` of a response: when its conversation is compacted. `compaction_plan.rs` does
//! it.
//!
//! `POST /v1/responses/compact` and `compaction_trigger` are in `compact.rs` and `summary.rs`.

use std::sync::Arc;

use loggia_seal::Keys;
use loggia_wire::openai::responses::ResponseRequest;
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{missing, one_of};

/// OpenAI's smallest `compact_threshold`.
const LEAST_TOKENS: u64 = 1000;

/// The field that asks for it.
pub(crate) const FIELD: &str = "context_management";

/// How a request wants its conversation to be compacted.
#[derive(Clone, Debug)]
pub(crate) struct AutoCompaction {
    /// The tokens of a prompt from which on it is compacted. `None`: four fifths of the context.
    pub(super) threshold: Option<u64>,
    /// How many messages at the beginning are the instructions of the request: no summary replaces
    /// them.
    pub(super) instructions: usize,
    /// Seal the summary.
    pub(super) keys: Arc<Keys>,
}

impl AutoCompaction {
    /// Reads `context_management`.
    ///
    /// # Errors
    /// A 400 for an entry that is not one of OpenAI's.
    pub(crate) fn of(
        request: &ResponseRequest,
        keys: Option<&Arc<Keys>>,
    ) -> Result<Option<Self>, ApiError> {
        let entries = match &request.context_management {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                let message = format!("Invalid type for '{FIELD}': expected an array.");
                return Err(ApiError::invalid(FIELD, "invalid_type", message));
            }
        };
        let mut thresholds = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            thresholds.push(threshold(&format!("{FIELD}[{index}]"), entry)?);
        }
        let (Some(keys), false) = (keys, thresholds.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            threshold: thresholds.into_iter().flatten().min(),
            instructions: usize::from(request.instructions.is_some()),
            keys: Arc::clone(keys),
        }))
    }
}

/// Reads an entry of `context_management`.
fn threshold(place: &str, entry: &Value) -> Result<Option<u64>, ApiError> {
    let kind_place = format!("{place}.type");
    let kind = entry.get("type").and_then(Value::as_str);
    let kind = kind.ok_or_else(|| missing(kind_place.clone()))?;
    one_of(&kind_place, Some(kind), &["compaction"])?;
    let place = format!("{place}.compact_threshold");
    match entry.get("compact_threshold") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(tokens)) if !tokens.is_f64() => match tokens.as_u64() {
            Some(tokens) if tokens >= LEAST_TOKENS => Ok(Some(tokens)),
            _ => {
                let message = format!(
                    "Invalid '{place}': integer below minimum value. Expected a value >= {LEAST_TOKENS}, but got {tokens} instead."
                );
                Err(ApiError::invalid(place, "integer_below_min_value", message))
            }
        },
        Some(_) => {
            let message = format!("Invalid type for '{place}': expected an integer.");
            Err(ApiError::invalid(place, "invalid_type", message))
        }
    }
}
