//! [`FinishedLine`]: a line of a batch with its answer or its error, and its tokens.

use loggia_wire::openai::{Batch, BatchLine, BatchLineError, BatchResponse, BatchUsage};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ERRORS;
use crate::answer::id;
use crate::store::{Item, Side};

/// A line that is done.
pub(super) struct FinishedLine {
    /// Its number, from 0.
    pub(super) number: u64,
    /// The line of the output.
    pub(super) json: String,
    /// The usage of its answer. `None` for an error.
    pub(super) usage: Option<BatchUsage>,
}

impl FinishedLine {
    /// A request that was answered, maybe with an error.
    pub(super) fn answered(
        number: u64,
        custom_id: &str,
        request_id: &str,
        status: u16,
        body: &str,
    ) -> Self {
        let Ok(raw) = serde_json::from_str::<&RawValue>(body) else {
            let message = "The answer is not valid JSON.";
            return Self::not_made(number, Some(custom_id), "server_error", message);
        };
        let is_answer = (200..300).contains(&status);
        let line = BatchLine {
            id: id::item("batch_req_"),
            custom_id: Some(custom_id),
            response: Some(BatchResponse {
                status_code: status,
                request_id,
                body: raw,
            }),
            error: None,
        };
        Self {
            number,
            json: serde_json::to_string(&line).unwrap_or_default(),
            usage: is_answer.then(|| usage_of(body)),
        }
    }

    /// A request that was not made.
    pub(super) fn not_made(
        number: u64,
        custom_id: Option<&str>,
        code: &str,
        message: &str,
    ) -> Self {
        let line = BatchLine {
            id: id::item("batch_req_"),
            custom_id,
            response: None,
            error: Some(BatchLineError { code, message }),
        };
        Self {
            number,
            json: serde_json::to_string(&line).unwrap_or_default(),
            usage: None,
        }
    }

    /// Counts the line, and returns it as an item.
    pub(super) fn counted(self, batch: &mut Batch) -> Item {
        let counts = &mut batch.request_counts;
        let side = if let Some(usage) = self.usage {
            counts.completed += 1;
            add(&mut batch.usage, &usage);
            Side::Output
        } else {
            counts.failed += 1;
            ERRORS
        };
        Item {
            id: format!("line-{}", self.number),
            body: self.json,
            side,
        }
    }
}

/// Returns the usage of an answer, whichever API it is of.
fn usage_of(body: &str) -> BatchUsage {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let usage = &body["usage"];
    let number = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| usage.pointer(name)?.as_u64());
        found.unwrap_or_default()
    };
    let mut found = BatchUsage {
        input_tokens: number(["/input_tokens", "/prompt_tokens"]),
        output_tokens: number(["/output_tokens", "/completion_tokens"]),
        ..BatchUsage::default()
    };
    found.input_tokens_details.cached_tokens = number([
        "/input_tokens_details/cached_tokens",
        "/prompt_tokens_details/cached_tokens",
    ]);
    found.output_tokens_details.reasoning_tokens = number([
        "/output_tokens_details/reasoning_tokens",
        "/completion_tokens_details/reasoning_tokens",
    ]);
    found.total_tokens = found.input_tokens + found.output_tokens;
    found
}

fn add(sum: &mut BatchUsage, more: &BatchUsage) {
    sum.input_tokens += more.input_tokens;
    sum.input_tokens_details.cached_tokens += more.input_tokens_details.cached_tokens;
    sum.output_tokens += more.output_tokens;
    sum.output_tokens_details.reasoning_tokens += more.output_tokens_details.reasoning_tokens;
    sum.total_tokens += more.total_tokens;
}
