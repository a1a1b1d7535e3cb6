//! OpenAI's error object.

use serde::{Deserialize, Serialize};

/// The body of a refusal, and the event of a stream that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}

/// What went wrong. All four fields are always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// For a person: what happened and what to do next.
    pub message: String,
    /// `invalid_request_error`, `server_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault.
    pub param: Option<String>,
    /// For a program: `model_not_found`, `context_length_exceeded`, …
    pub code: Option<String>,
}
