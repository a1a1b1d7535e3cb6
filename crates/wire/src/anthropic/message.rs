//! The answer of `POST /v1/messages`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::JsonText;
use crate::object::words;

/// A message of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The id, `msg_…`.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always `assistant`.
    pub role: String,
    /// The model name that the client sent.
    pub model: String,
    /// The blocks.
    pub content: Vec<ContentBlock>,
    /// Why generation stopped. `None` while the answer is streamed.
    pub stop_reason: Option<StopReason>,
    /// The stop sequence that ended the answer.
    pub stop_sequence: Option<String>,
    /// Details of a refusal.
    pub stop_details: Option<StopDetails>,
    /// The container of server tools. Local models have none.
    pub container: Option<Value>,
    /// The edits that removed something from the conversation, if the client asked for edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_management: Option<ContextManagement>,
    /// The diagnosis of the prompt cache, if the client asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
    /// The results of `safeguards`, if the client asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safeguard_results: Option<Vec<SafeguardResult>>,
    /// The number of tokens used.
    pub usage: Usage,
}

/// A block of the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// Reasoning.
    Thinking {
        /// The text. Empty if the client does not want to see it.
        thinking: String,
        /// Identifies the reasoning when it is sent back.
        signature: String,
    },
    /// A call of a tool.
    ToolUse {
        /// The id that the result refers to.
        id: String,
        /// The tool.
        name: String,
        /// The input, an object.
        input: JsonText,
    },
    /// A summary that replaces the conversation.
    Compaction {
        /// The summary. `None` if the model wrote none, and while the answer is streamed.
        content: Option<String>,
        /// The data that the server needs to continue from the summary, sealed. `None` if there is
        /// none, and while the answer is streamed.
        encrypted_content: Option<String>,
        /// The changes of the tools in the conversation.
        tool_changes: Vec<Value>,
    },
}

words! {
    /// Why generation stopped.
    pub enum StopReason {
        /// The model ended the answer.
        EndTurn = "end_turn",
        /// The token limit was reached.
        MaxTokens = "max_tokens",
        /// A stop sequence matched.
        StopSequence = "stop_sequence",
        /// The model called tools.
        ToolUse = "tool_use",
        /// The model or a filter refused to answer.
        Refusal = "refusal",
        /// The conversation was summarized, and there is no answer.
        Compaction = "compaction",
        /// The context was full.
        ModelContextWindowExceeded = "model_context_window_exceeded",
    }
}

/// Details of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopDetails {
    /// Always `refusal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of refusal. Local models do not report it.
    pub category: Option<String>,
    /// The reason in words.
    pub explanation: Option<String>,
}

impl StopDetails {
    /// Creates the details of a refusal whose reason is not known.
    pub fn refusal() -> Self {
        Self {
            kind: "refusal".to_owned(),
            category: None,
            explanation: None,
        }
    }
}

/// The result of a classifier that the client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SafeguardResult {
    /// The name of the classifier.
    #[serde(rename = "type")]
    pub kind: String,
    /// The classifier's status.
    pub status: SafeguardStatus,
}

/// The status of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SafeguardStatus {
    /// The server does not have the classifier.
    Unsupported,
}

impl SafeguardResult {
    /// Creates the result of a classifier that the server does not have.
    pub fn unsupported(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            status: SafeguardStatus::Unsupported,
        }
    }
}

/// The edits that removed something from the conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextManagement {
    /// The edits.
    pub applied_edits: Vec<Value>,
}

/// The diagnosis of the prompt cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Why the cache was not used.
    pub cache_miss_reason: Option<Value>,
}

/// The number of tokens of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens that the engine processed.
    pub input_tokens: u64,
    /// Prompt tokens that were written to the cache at extra cost. Always 0.
    pub cache_creation_input_tokens: u64,
    /// Prompt tokens that the engine took from its cache.
    pub cache_read_input_tokens: u64,
    /// Tokens written to the cache, by lifetime of the entry.
    pub cache_creation: CacheCreation,
    /// Generated tokens, reasoning included.
    pub output_tokens: u64,
    /// Generated tokens by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_details: Option<OutputTokensDetails>,
    /// Always `standard`.
    pub service_tier: String,
    /// The tokens of each call of the model, if the conversation was compacted before the answer.
    /// Those of a compaction are in no other field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<Vec<IterationUsage>>,
}

/// The tokens of one call of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IterationUsage {
    /// The purpose of the call.
    #[serde(rename = "type")]
    pub kind: IterationKind,
    /// Prompt tokens that the engine processed.
    pub input_tokens: u64,
    /// Always 0.
    pub cache_creation_input_tokens: u64,
    /// Prompt tokens that the engine took from its cache.
    pub cache_read_input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
}

words! {
    /// The purpose of a call of the model.
    pub enum IterationKind {
        /// The call wrote the answer.
        Message = "message",
        /// The call wrote the summary of a compaction.
        Compaction = "compaction",
    }
}

/// Tokens written to the cache, by lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCreation {
    /// Tokens in entries that live five minutes.
    pub ephemeral_5m_input_tokens: u64,
    /// Tokens in entries that live one hour.
    pub ephemeral_1h_input_tokens: u64,
}

/// Generated tokens of a special kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTokensDetails {
    /// Reasoning tokens.
    pub thinking_tokens: u64,
}
