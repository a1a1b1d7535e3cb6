//! The response: the complete answer, and the first and last event of a stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OutputItem;
use crate::openai::CompletionUsage;

/// `Response`: the complete answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The id, `resp_…`.
    pub id: String,
    /// Always `response`.
    pub object: String,
    /// The creation time, as Unix time in seconds.
    pub created_at: u64,
    /// The status of the response.
    pub status: ResponseStatus,
    /// Whether the response is generated in the background.
    pub background: bool,
    /// The time of completion, as Unix time in seconds.
    pub completed_at: Option<u64>,
    /// The conversation that the response belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationRef>,
    /// The error, if the response failed.
    pub error: Option<ResponseError>,
    /// Why the response is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// `frequency_penalty` of the request. Default: 0. Open Responses has it.
    #[serde(default)]
    pub frequency_penalty: f64,
    /// `instructions` of the request.
    pub instructions: Option<String>,
    /// `max_output_tokens` of the request.
    pub max_output_tokens: Option<i64>,
    /// `max_tool_calls` of the request.
    pub max_tool_calls: Option<i64>,
    /// The model name that the client sent.
    pub model: String,
    /// The items that the model generated.
    pub output: Vec<OutputItem>,
    /// `parallel_tool_calls` of the request. Default: true.
    pub parallel_tool_calls: bool,
    /// `presence_penalty` of the request. Default: 0. Open Responses has it.
    #[serde(default)]
    pub presence_penalty: f64,
    /// `previous_response_id` of the request.
    pub previous_response_id: Option<String>,
    /// `prompt_cache_key` of the request.
    pub prompt_cache_key: Option<String>,
    /// `effort` and `summary` of the request.
    pub reasoning: Value,
    /// `safety_identifier` of the request.
    pub safety_identifier: Option<String>,
    /// Always `default`.
    pub service_tier: String,
    /// Whether the server stores the response.
    pub store: bool,
    /// `temperature` of the request. Default: 1.
    pub temperature: f64,
    /// `format` and `verbosity` of the request.
    pub text: Value,
    /// `tool_choice` of the request. Default: `auto`.
    pub tool_choice: Value,
    /// `tools` of the request.
    pub tools: Vec<Value>,
    /// `top_logprobs` of the request. Default: 0.
    pub top_logprobs: i64,
    /// `top_p` of the request. Default: 1.
    pub top_p: f64,
    /// Always `disabled`: an input that is too long is refused.
    pub truncation: String,
    /// The number of tokens used, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ResponseUsage>,
    /// `user` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Items of the input that the model did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_transformations: Vec<InputTransformation>,
    /// `metadata` of the request.
    pub metadata: BTreeMap<String, Value>,
}

/// `CompactResource`: a conversation whose older part is a summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompactedResponse<'a> {
    /// The id, `resp_…`.
    pub id: &'a str,
    /// Always `response.compaction`.
    pub object: &'static str,
    /// The items of the conversation.
    pub output: Vec<Value>,
    /// The creation time, as Unix time in seconds.
    pub created_at: u64,
    /// The tokens that the summary cost.
    pub usage: Option<&'a ResponseUsage>,
}

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// The response waits to be started.
    Queued,
    /// The response is being generated.
    InProgress,
    /// The response is complete.
    Completed,
    /// The response was cut short.
    Incomplete,
    /// The response failed.
    Failed,
    /// The client cancelled the response.
    Cancelled,
}

/// `conversation` of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRef {
    /// `conv_…`.
    pub id: String,
}

/// `error` of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseError {
    /// A code for programs: `server_error`, `rate_limit_exceeded`, `context_length_exceeded`, …
    pub code: String,
    /// A message for a person.
    pub message: String,
    /// The path of the invalid field, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The type: `invalid_request_error`, `server_error`, …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// `incomplete_details`: why a response is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompleteDetails {
    /// `max_output_tokens` or `content_filter`.
    pub reason: String,
}

/// `ResponseUsage`: the number of tokens that a response used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseUsage {
    /// The number of input tokens, cached tokens included.
    pub input_tokens: u64,
    /// Input tokens by kind.
    pub input_tokens_details: InputTokensDetails,
    /// The number of generated tokens, reasoning included.
    pub output_tokens: u64,
    /// Generated tokens by kind.
    pub output_tokens_details: OutputTokensDetails,
    /// The sum of input tokens and generated tokens.
    pub total_tokens: u64,
}

/// `input_tokens_details`: input tokens by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTokensDetails {
    /// Input tokens that the engine took from its cache.
    pub cached_tokens: u64,
    /// Input tokens written into OpenAI's cache. Always 0 here.
    #[serde(default)]
    pub cache_write_tokens: u64,
}

/// `output_tokens_details`: generated tokens by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTokensDetails {
    /// Reasoning tokens.
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

/// An item of the input that the model did not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTransformation {
    /// The id of the item.
    pub id: Option<String>,
    /// The type of the item: `reasoning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The change: `removed`.
    pub action: String,
    /// The reason: `organization_mismatch` if another server sealed the item.
    pub reason: String,
}
