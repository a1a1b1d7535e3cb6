//! OpenAI's error object.

use serde::{Deserialize, Serialize};

/// The body of an error response, and the error event of a failed stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorObject,
}

/// An error. All four fields are always present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// A message for a person: what is wrong and what to do.
    pub message: String,
    /// The type: `invalid_request_error`, `server_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The path of the invalid field.
    pub param: Option<String>,
    /// A code for programs: `model_not_found`, `context_length_exceeded`, …
    pub code: Option<String>,
}
