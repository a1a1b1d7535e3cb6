//! A response: what a whole answer is, and what a stream begins and ends with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OutputItem;
use crate::openai::CompletionUsage;

/// `Response`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// `resp_…`.
    pub id: String,
    /// `response`.
    pub object: String,
    /// Unix time in seconds.
    pub created_at: u64,
    /// How far it has come.
    pub status: ResponseStatus,
    /// Whether it goes on without its client.
    pub background: bool,
    /// When it was completed.
    pub completed_at: Option<u64>,
    /// What went wrong.
    pub error: Option<ResponseError>,
    /// Why it is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// As asked.
    pub instructions: Option<String>,
    /// As asked.
    pub max_output_tokens: Option<i64>,
    /// As asked.
    pub max_tool_calls: Option<i64>,
    /// The name the client asked for.
    pub model: String,
    /// What the model gave.
    pub output: Vec<OutputItem>,
    /// As asked, or yes.
    pub parallel_tool_calls: bool,
    /// The response that this one goes on from.
    pub previous_response_id: Option<String>,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache_key: Option<String>,
    /// `effort` and `summary`, as asked.
    pub reasoning: Value,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_identifier: Option<String>,
    /// `default`.
    pub service_tier: String,
    /// Whether the server keeps it.
    pub store: bool,
    /// As asked.
    pub temperature: Option<f64>,
    /// `format` and `verbosity`, as asked.
    pub text: Value,
    /// As asked, or `auto`.
    pub tool_choice: Value,
    /// As asked.
    pub tools: Vec<Value>,
    /// As asked, or none.
    pub top_logprobs: i64,
    /// As asked.
    pub top_p: Option<f64>,
    /// `disabled`: an input that is too long is refused.
    pub truncation: String,
    /// What it cost, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ResponseUsage>,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As asked.
    pub metadata: BTreeMap<String, Value>,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// It waits to be begun.
    Queued,
    /// More is to come.
    InProgress,
    /// It is all there.
    Completed,
    /// It was cut.
    Incomplete,
    /// It went wrong.
    Failed,
    /// The client cancelled it.
    Cancelled,
}

/// `error` of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseError {
    /// For a program: `server_error`, `rate_limit_exceeded`, `context_length_exceeded`, …
    pub code: String,
    /// For a person.
    pub message: String,
    /// The field at fault, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// `invalid_request_error`, `server_error`, …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// `incomplete_details`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompleteDetails {
    /// `max_output_tokens` or `content_filter`.
    pub reason: String,
}

/// `ResponseUsage`: what a response cost, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseUsage {
    /// Of the input, cached ones included.
    pub input_tokens: u64,
    /// Of the input, which kind.
    pub input_tokens_details: InputTokensDetails,
    /// Of the output, reasoning included.
    pub output_tokens: u64,
    /// Of the output, which kind.
    pub output_tokens_details: OutputTokensDetails,
    /// Their sum.
    pub total_tokens: u64,
}

/// `input_tokens_details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTokensDetails {
    /// Tokens that did not have to be read again.
    pub cached_tokens: u64,
    /// Tokens that were written into OpenAI's cache: none here.
    #[serde(default)]
    pub cache_write_tokens: u64,
}

/// `output_tokens_details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTokensDetails {
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
}

impl From<&CompletionUsage> for ResponseUsage {
    fn from(usage: &CompletionUsage) -> Self {
        let cached = usage.prompt_tokens_details.as_ref();
        let reasoning = usage.completion_tokens_details.as_ref();
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: cached.map_or(0, |details| details.cached_tokens),
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: reasoning.map_or(0, |details| details.reasoning_tokens),
            },
            total_tokens: usage.total_tokens,
        }
    }
}
