//! When the server compacts a conversation before it answers, as a request asks for it, and
//! `context_management` of a response. `compaction_plan.rs` does it, also for messages, whose edit is
//! in `messages/compact_edit.rs`.
//!
//! `POST /v1/responses/compact` and `compaction_trigger` are in `compact.rs` and `summary.rs`.

use std::sync::Arc;

use loggia_seal::Keys;
use loggia_wire::openai::Message;
use loggia_wire::openai::responses::ResponseRequest;
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{missing, one_of};
use crate::responses::summary;

/// OpenAI's smallest `compact_threshold`.
pub(crate) const LEAST_TOKENS: u64 = 1000;

/// The field that asks for compaction.
pub(crate) const FIELD: &str = "context_management";

/// How a request wants its conversation to be compacted.
#[derive(Clone, Debug)]
pub(crate) struct AutoCompaction {
    /// The tokens of a prompt from which on it is compacted.
    pub(crate) threshold: Threshold,
    /// How many messages at the beginning are the instructions of the request: no summary replaces
    /// them.
    pub(crate) instructions: usize,
    /// The keys that seal the summary for the client. Without keys, the client gets only the
    /// summary's text.
    pub(crate) keys: Option<Arc<Keys>>,
    /// The message that asks the model for the summary.
    pub(crate) question: Message,
    /// The messages that the summary is about.
    pub(crate) scope: Scope,
    /// Whether the answer ends after the summary.
    pub(crate) pauses: bool,
}

/// The number of tokens of a prompt at which the conversation is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    Tokens(u64),
    /// Four fifths of the context.
    OfContext,
    /// The smaller one of this number and four fifths of the context.
    AtMost(u64),
}

impl Threshold {
    /// Returns the number for a context of this size. `None` if it depends on a size that is not
    /// known.
    pub(super) fn tokens(self, context: Option<u64>) -> Option<u64> {
        let of_context = context.map(|context| context / 5 * 4);
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::OfContext => of_context,
            Self::AtMost(tokens) => Some(of_context.map_or(tokens, |most| most.min(tokens))),
        }
    }
}

/// The messages that a summary is about. The model answers the last ones in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The messages before the ones that the model answers now.
    Earlier,
    /// All: the client may send the summary back without the rest.
    All,
}

impl AutoCompaction {
    /// Reads `context_management` of a response.
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
        let least = thresholds.into_iter().flatten().min();
        Ok(Some(Self {
            threshold: least.map_or(Threshold::OfContext, Threshold::Tokens),
            instructions: usize::from(request.instructions.is_some()),
            keys: Some(Arc::clone(keys)),
            question: summary::question(),
            scope: Scope::Earlier,
            pauses: false,
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
