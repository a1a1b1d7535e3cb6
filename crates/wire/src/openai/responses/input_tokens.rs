//! The answer to `POST /v1/responses/input_tokens`.

use serde::{Deserialize, Serialize};

/// `TokenCountsResource`: the number of tokens of a request for a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTokens {
    /// `response.input_tokens`.
    pub object: String,
    /// The number of tokens.
    pub input_tokens: u64,
}

impl InputTokens {
    /// Creates the answer for this number.
    pub fn new(input_tokens: u64) -> Self {
        Self {
            object: "response.input_tokens".to_owned(),
            input_tokens,
        }
    }
}
