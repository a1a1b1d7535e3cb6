//! [`TokenCount`]: the number of tokens of a prompt, without an answer to it.
//!
//! Engines with a tokenizer endpoint count without computing anything. For the others, `by_answer`
//! requests an answer of one token and reads its usage, `cache` caches such counts, and `estimate`
//! is the last resort. `docs/dialects.md`, part 9, says which engine counts how.

pub(crate) mod by_answer;
pub(crate) mod cache;
pub(crate) mod estimate;

use serde::{Deserialize, Serialize};

use crate::ServedBy;

/// The number of tokens of a prompt: what `prompt_tokens` of an answer to the same chat would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// The number of tokens: the messages, the tools and everything that the chat template adds.
    pub input_tokens: u64,
    /// Whether the model's own tokenizer counted. If false, the number is an estimate.
    pub is_exact: bool,
    /// The backend and model that counted, and the changes to the conversation that they needed.
    pub served_by: ServedBy,
}

impl TokenCount {
    /// Creates an exact count.
    pub fn exact(input_tokens: u64, served_by: ServedBy) -> Self {
        Self {
            input_tokens,
            is_exact: true,
            served_by,
        }
    }
}
