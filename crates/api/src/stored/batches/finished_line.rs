//! [`FinishedLine`]: a line of a batch with its answer or its error, and its tokens.

use loggia_wire::openai::{Batch, BatchLine, BatchLineError, BatchResponse, BatchUsage};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::id;
use crate::store::Kind;

/// A line that is done.
#[derive(Debug)]
pub(super) struct FinishedLine {
    /// The line's number, from 0.
    pub(super) number: u64,
    /// The client's id. `None` if the line could not be parsed.
    pub(super) custom_id: Option<String>,
    pub(super) outcome: Outcome,
}

/// The result of the request of a line.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The request was answered, maybe with an error.
    Made {
        request_id: String,
        status: u16,
        /// The body of the answer, which is JSON.
        body: Box<RawValue>,
    },
    /// The request was not made.
    NotMade { code: &'static str, message: String },
    /// The batch ended before.
    GivenUp(GivenUp),
}

/// Why the rest of a batch is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    Cancelled,
    Expired,
}

impl Outcome {
    /// A request that was answered.
    pub(super) fn made(request_id: String, status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(body) => Self::Made {
                request_id,
                status,
                body,
            },
            Err(_) => Self::not_made("server_error", "The answer is not valid JSON."),
        }
    }

    pub(super) fn not_made(code: &'static str, message: impl Into<String>) -> Self {
        Self::NotMade {
            code,
            message: message.into(),
        }
    }
}

impl GivenUp {
    /// Returns the code and the message of the error in OpenAI's API.
    fn error(self) -> (&'static str, &'static str) {
        match self {
            Self::Cancelled => (
                "batch_cancelled",
                "This request was not executed because the batch was cancelled.",
            ),
            Self::Expired => (
                "batch_expired",
                "This request could not be executed before the completion window expired.",
            ),
        }
    }
}

impl FinishedLine {
    /// Whether the request was answered without an error.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.outcome, Outcome::Made { status, .. } if (200..300).contains(&status))
    }

    /// Counts the line in a batch of this kind.
    pub(super) fn count(&self, batch: &mut Batch, kind: Kind) {
        let is_answer = self.is_answer();
        let counts = &mut batch.request_counts;
        if is_answer {
            counts.completed += 1;
        } else if kind == Kind::Batch || !matches!(self.outcome, Outcome::GivenUp(_)) {
            counts.failed += 1;
        }
        if let Outcome::Made { body, .. } = &self.outcome
            && is_answer
        {
            add(&mut batch.usage, &usage_of(body.get()));
        }
    }

    /// Returns the line of the output file, or of the error file.
    pub(super) fn json(&self) -> String {
        let (response, error) = match &self.outcome {
            Outcome::Made {
                request_id,
                status,
                body,
            } => {
                let response = BatchResponse {
                    status_code: *status,
                    request_id,
                    body,
                };
                (Some(response), None)
            }
            Outcome::NotMade { code, message } => (None, Some((*code, message.as_str()))),
            Outcome::GivenUp(why) => (None, Some(why.error())),
        };
        let line = BatchLine {
            id: id::item("batch_req_"),
            custom_id: self.custom_id.as_deref(),
            response,
            error: error.map(|(code, message)| BatchLineError { code, message }),
        };
        serde_json::to_string(&line).unwrap_or_default()
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
