//! A whole answer: `CreateChatCompletionResponse`, with its usage and log-probabilities.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FunctionCall, Role, ToolCall};
use crate::object::object;

object! {
    /// `CreateChatCompletionResponse`.
    pub struct ChatCompletion {
        /// `chatcmpl-…`.
        required id: String = "id",
        /// `chat.completion`.
        required object: String = "object",
        /// Unix time in seconds.
        required created: u64 = "created",
        /// The name the client asked for.
        required model: String = "model",
        /// One answer for each of `n`.
        required choices: Vec<Choice> = "choices",
        /// What it cost.
        optional usage: CompletionUsage = "usage",
        /// Changes when backend, weights or engine version change.
        optional system_fingerprint: String = "system_fingerprint",
    }
}

object! {
    /// One answer.
    pub struct Choice {
        /// Which of `n`.
        required index: u32 = "index",
        /// What was said.
        required message: ResponseMessage = "message",
        /// Log-probabilities, where asked for.
        nullable logprobs: Logprobs = "logprobs",
        /// Why it ended.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

object! {
    /// `ChatCompletionResponseMessage`.
    pub struct ResponseMessage {
        /// `assistant`.
        required role: Role = "role",
        /// What was said; `null` where tools were called instead.
        nullable content: String = "content",
        /// What the model refused to say.
        nullable refusal: String = "refusal",
        /// The reasoning before the answer, as llama.cpp and `DeepSeek` name it.
        optional reasoning_content: String = "reasoning_content",
        /// The same, as Ollama and vLLM name it.
        optional reasoning: String = "reasoning",
        /// What was called.
        optional tool_calls: Vec<ToolCall> = "tool_calls",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCall = "function_call",
        /// Citations; local models give none.
        optional annotations: Vec<Value> = "annotations",
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// By itself, or at a stop string.
    Stop,
    /// At the most tokens asked for, or at the end of the context.
    Length,
    /// With calls.
    ToolCalls,
    /// Cut by a filter.
    ContentFilter,
    /// With a call, the older form.
    FunctionCall,
}

object! {
    /// Log-probabilities of one choice, or of one chunk of it.
    pub struct Logprobs {
        /// Of the tokens of the content.
        nullable content: Vec<TokenLogprob> = "content",
        /// Of the tokens of a refusal.
        nullable refusal: Vec<TokenLogprob> = "refusal",
    }
}

/// A token and its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text; `U+FFFD` stands for bytes that are no whole character.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f64,
    /// Its bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The most probable tokens in its place.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that might have stood there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f64,
    /// Its bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

object! {
    /// `CompletionUsage`: what an answer cost, in tokens.
    pub struct CompletionUsage {
        /// Of the prompt, cached ones included.
        required prompt_tokens: u64 = "prompt_tokens",
        /// Of the answer, reasoning included, all choices together.
        required completion_tokens: u64 = "completion_tokens",
        /// Their sum.
        required total_tokens: u64 = "total_tokens",
        /// Of the prompt, which kind.
        optional prompt_tokens_details: PromptTokensDetails = "prompt_tokens_details",
        /// Of the answer, which kind.
        optional completion_tokens_details: CompletionTokensDetails = "completion_tokens_details",
    }
}

impl CompletionUsage {
    /// The two counts and their sum; how many of them were cached or reasoning is 0 until said
    /// otherwise.
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

/// `prompt_tokens_details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Tokens that did not have to be read again.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Tokens of sound.
    #[serde(default)]
    pub audio_tokens: u64,
}

/// `completion_tokens_details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Tokens of reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Tokens of sound.
    #[serde(default)]
    pub audio_tokens: u64,
    /// Tokens of a prediction that came true.
    #[serde(default)]
    pub accepted_prediction_tokens: u64,
    /// Tokens of a prediction that did not.
    #[serde(default)]
    pub rejected_prediction_tokens: u64,
}
