//! Errors, as the body of a response and as the last event of a stream.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error.
    pub error: ErrorObject,
    /// The id of the request.
    pub request_id: Option<String>,
}

impl ErrorResponse {
    /// Creates an error of this type.
    pub fn new(kind: &str, message: impl Into<String>, request_id: Option<String>) -> Self {
        Self {
            kind: "error".to_owned(),
            error: ErrorObject {
                kind: kind.to_owned(),
                message: message.into(),
                details: None,
            },
            request_id,
        }
    }
}

/// The type and the message of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// `invalid_request_error`, `overloaded_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The message.
    pub message: String,
    /// Details for programs, such as `error_code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}
