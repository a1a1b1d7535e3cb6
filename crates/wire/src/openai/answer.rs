//! A complete chat answer: `CreateChatCompletionResponse`, with usage and log-probabilities.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FunctionCall, Role, ToolCall};
use crate::object::object;

object! {
    /// `CreateChatCompletionResponse`: a complete chat answer.
    pub struct ChatCompletion {
        /// The id, `chatcmpl-…`.
        required id: String = "id",
        /// Always `chat.completion`.
        required object: String = "object",
        /// The creation time, as Unix time in seconds.
        required created: u64 = "created",
        /// The model name that the client sent.
        required model: String = "model",
        /// The choices, `n` of them.
        required choices: Vec<Choice> = "choices",
        /// The number of tokens used.
        optional usage: CompletionUsage = "usage",
        /// Changes if the backend, the weights or the version of the engine change.
        optional system_fingerprint: String = "system_fingerprint",
    }
}

object! {
    /// A choice of a chat answer.
    pub struct Choice {
        /// The number of the choice, from 0 to `n` − 1.
        required index: u32 = "index",
        /// The message of the model.
        required message: ResponseMessage = "message",
        /// The log-probabilities, if the client requested them.
        nullable logprobs: Logprobs = "logprobs",
        /// The reason why generation stopped.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

object! {
    /// `ChatCompletionResponseMessage`: the message of the model.
    pub struct ResponseMessage {
        /// Always `assistant`.
        required role: Role = "role",
        /// The text. `null` if the model called tools instead.
        nullable content: String = "content",
        /// The text of a refusal by the model.
        nullable refusal: String = "refusal",
        /// The reasoning before the answer, under the name that llama.cpp and `DeepSeek` use.
        optional reasoning_content: String = "reasoning_content",
        /// The reasoning before the answer, under the name that Ollama and vLLM use.
        optional reasoning: String = "reasoning",
        /// The tool calls.
        optional tool_calls: Vec<ToolCall> = "tool_calls",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCall = "function_call",
        /// Citations. Local models do not return any.
        optional annotations: Vec<Value> = "annotations",
    }
}

/// The reason why generation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended the answer, or a stop string matched.
    Stop,
    /// The token limit or the end of the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
    /// A content filter stopped the answer.
    ContentFilter,
    /// The model called a function (older form of `ToolCalls`).
    FunctionCall,
}

object! {
    /// The log-probabilities of a choice, or of a chunk of it.
    pub struct Logprobs {
        /// The log-probabilities of the tokens of the content.
        nullable content: Vec<TokenLogprob> = "content",
        /// The log-probabilities of the tokens of a refusal.
        nullable refusal: Vec<TokenLogprob> = "refusal",
    }
}

/// A token and its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The text of the token. Bytes that are not a complete character appear as `U+FFFD`.
    pub token: String,
    /// The natural logarithm of the token's probability.
    pub logprob: f64,
    /// The bytes of the token.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The most probable tokens at this position.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// An alternative to a token, and its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The text of the token.
    pub token: String,
    /// The natural logarithm of the token's probability.
    pub logprob: f64,
    /// The bytes of the token.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

object! {
    /// `CompletionUsage`: the number of tokens that a request used.
    pub struct CompletionUsage {
        /// The number of prompt tokens, cached tokens included.
        required prompt_tokens: u64 = "prompt_tokens",
        /// The number of generated tokens of all choices, reasoning included.
        required completion_tokens: u64 = "completion_tokens",
        /// The sum of prompt tokens and generated tokens.
        required total_tokens: u64 = "total_tokens",
        /// Prompt tokens by kind.
        optional prompt_tokens_details: PromptTokensDetails = "prompt_tokens_details",
        /// Generated tokens by kind.
        optional completion_tokens_details: CompletionTokensDetails = "completion_tokens_details",
    }
}

impl CompletionUsage {
    /// Creates the usage with the sum of both counts. Cached tokens and reasoning tokens are 0.
    pub fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: Some(PromptTokensDetails::default()),
            completion_tokens_details: Some(CompletionTokensDetails::default()),
            extra: crate::Extra::new(),
        }
    }
}

/// `prompt_tokens_details`: prompt tokens by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens that the engine took from its cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Audio tokens.
    #[serde(default)]
    pub audio_tokens: u64,
}

/// `completion_tokens_details`: generated tokens by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Reasoning tokens.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Audio tokens.
    #[serde(default)]
    pub audio_tokens: u64,
    /// Tokens of `prediction` that the answer contains.
    #[serde(default)]
    pub accepted_prediction_tokens: u64,
    /// Tokens of `prediction` that the answer does not contain.
    #[serde(default)]
    pub rejected_prediction_tokens: u64,
}
