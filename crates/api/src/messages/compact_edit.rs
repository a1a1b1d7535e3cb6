//! The edit `compact_20260112` of `context_management`: a conversation that is long enough is
//! summarized before the answer. The answer begins with a block of the type `compaction`, as
//! `compaction.rs` has it.

use serde::Deserialize;
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{between, missing, not_among};
use crate::admit::parse::{typed, wrong_at};
use crate::messages::compaction;
use crate::messages::signature::Signer;
use crate::responses::auto_compaction::{AutoCompaction, LEAST_TOKENS, Scope, Threshold};

/// The type of the edit.
pub(crate) const COMPACT: &str = "compact_20260112";

/// Anthropic's default trigger.
const USUAL_TRIGGER: u64 = 150_000;

/// Reads the edit of a request, if there is one. `instructions` is the number of messages that are
/// its system prompt.
///
/// # Errors
/// Returns a 400 for an invalid field, and for a second edit of this type.
pub(crate) fn of(
    management: Option<&Value>,
    instructions: usize,
    signer: &Signer,
) -> Result<Option<AutoCompaction>, ApiError> {
    let edits = management.and_then(|management| management.get("edits")?.as_array());
    let edits = edits.into_iter().flatten().enumerate();
    let mut found = None;
    for (index, edit) in edits.filter(|(_, edit)| is_compact(edit)) {
        let place = format!("context_management.edits[{index}]");
        if found.is_some() {
            let message =
                format!("Invalid '{place}': there can be one edit of the type {COMPACT}.");
            return Err(ApiError::invalid(place, "invalid_value", message));
        }
        found = Some(read(&place, edit, instructions, signer)?);
    }
    Ok(found)
}

fn is_compact(edit: &Value) -> bool {
    edit.get("type").is_some_and(|kind| kind == COMPACT)
}

fn read(
    place: &str,
    edit: &Value,
    instructions: usize,
    signer: &Signer,
) -> Result<AutoCompaction, ApiError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(default)]
        trigger: Option<Trigger>,
        #[serde(default)]
        instructions: Option<String>,
        #[serde(default)]
        pause_after_compaction: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Trigger {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        value: Option<i64>,
    }
    let fields: Fields = typed(edit.clone()).map_err(|error| wrong_at(place, error))?;
    let mut most = USUAL_TRIGGER;
    if let Some(Trigger { kind, value }) = fields.trigger {
        if kind != "input_tokens" {
            let place = format!("{place}.trigger.type");
            return Err(not_among(place, &kind, &["input_tokens"]));
        }
        let place = format!("{place}.trigger.value");
        let value = value.ok_or_else(|| missing(place.clone()))?;
        between(&place, Some(value), LEAST_TOKENS.cast_signed(), i64::MAX)?;
        most = value.unsigned_abs();
    }
    Ok(AutoCompaction {
        threshold: Threshold::AtMost(most),
        instructions,
        keys: signer.keys(),
        question: compaction::question(fields.instructions),
        scope: Scope::All,
        pauses: fields.pause_after_compaction == Some(true),
    })
}
