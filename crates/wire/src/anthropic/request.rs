//! The request of `POST /v1/messages`.

use serde_json::Value;

use super::{Content, InputMessage};
use crate::object::object;

object! {
    /// The request of `POST /v1/messages`, with the fields of its beta.
    pub struct MessagesRequest {
        /// The name of the model, or an alias.
        required model: String = "model",
        /// The conversation.
        required messages: Vec<InputMessage> = "messages",
        /// The system prompt.
        optional system: Content = "system",
        /// The maximum number of tokens to generate. Anthropic's API requires it.
        optional max_tokens: i64 = "max_tokens",
        /// Whether to stream the answer. Default: no.
        optional stream: bool = "stream",
        /// Strings that end the answer.
        optional stop_sequences: Vec<String> = "stop_sequences",
        /// The sampling temperature, 0 to 1 in Anthropic's API.
        optional temperature: f64 = "temperature",
        /// The probability mass to sample from, 0 to 1.
        optional top_p: f64 = "top_p",
        /// The number of tokens to sample from.
        optional top_k: i64 = "top_k",
        /// As in OpenAI's API. Anthropic's does not have it.
        optional seed: i64 = "seed",
        /// As in OpenAI's API. Anthropic's does not have it.
        optional presence_penalty: f64 = "presence_penalty",
        /// As in OpenAI's API. Anthropic's does not have it.
        optional frequency_penalty: f64 = "frequency_penalty",
        /// The tools that the model may call.
        optional tools: Vec<Tool> = "tools",
        /// Whether the model may or must call a tool, and which.
        optional tool_choice: ToolChoice = "tool_choice",
        /// Whether the model reasons before the answer.
        optional thinking: Thinking = "thinking",
        /// The effort and the format of the answer.
        optional output_config: OutputConfig = "output_config",
        /// The older place of `output_config.format`.
        optional output_format: OutputFormat = "output_format",
        /// Labels of the client: `user_id`.
        free metadata: Value = "metadata",
        /// A hint for Anthropic's scheduling.
        optional service_tier: String = "service_tier",
        /// Marks the last block for the prompt cache.
        free cache_control: Value = "cache_control",
        /// Which earlier parts of the conversation to remove.
        free context_management: Value = "context_management",
        /// The container of server tools.
        free container: Value = "container",
        /// MCP servers that Anthropic's servers call.
        free mcp_servers: Value = "mcp_servers",
        /// A conversation that the server keeps.
        free thread: Value = "thread",
        /// Requests a summary of the conversation instead of an answer.
        free compaction: Value = "compaction",
        /// Requests a diagnosis of the prompt cache.
        free diagnostics: Value = "diagnostics",
        /// Other models to ask if this one declines.
        free fallbacks: Value = "fallbacks",
        /// A credit for such a retry.
        free fallback_credit_token: Value = "fallback_credit_token",
        /// Classifiers to run over the answer. Claude Code sends it in its auto mode.
        free safeguards: Value = "safeguards",
        /// A hint for Anthropic's scheduling: `standard` or `fast`.
        optional speed: String = "speed",
        /// The region of Anthropic's servers.
        optional inference_geo: String = "inference_geo",
        /// The party that is billed.
        free billing_policy: Value = "billing_policy",
        /// The profile of the end user.
        optional user_profile_id: String = "user_profile_id",
        /// The workspace at Anthropic.
        optional workspace_id: String = "workspace_id",
    }
}

impl MessagesRequest {
    /// Returns whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }
}

object! {
    /// An entry of `tools`, of any type. Fields of particular types are in `extra`.
    pub struct Tool {
        /// The type. Absent for a custom tool.
        optional kind: String = "type",
        /// The name that the model calls. Toolsets have none.
        optional name: String = "name",
        /// The description for the model.
        optional description: String = "description",
        /// The JSON schema of the input.
        free input_schema: Value = "input_schema",
        /// Whether the input must match the schema.
        optional strict: bool = "strict",
        /// Whether the model sees the tool only after a `tool_reference` to it.
        optional defer_loading: bool = "defer_loading",
        /// Examples of inputs.
        free input_examples: Value = "input_examples",
        /// Who may call the tool: `direct`, or code that a server runs.
        optional allowed_callers: Vec<String> = "allowed_callers",
        /// Whether to stream the input before it is complete.
        optional eager_input_streaming: bool = "eager_input_streaming",
        /// Marks the tool for the prompt cache.
        free cache_control: Value = "cache_control",
    }
}

object! {
    /// `tool_choice`.
    pub struct ToolChoice {
        /// `auto`, `any`, `tool` or `none`.
        required kind: String = "type",
        /// The name of the tool, for the type `tool`.
        optional name: String = "name",
        /// Whether to make at most one call.
        optional disable_parallel_tool_use: bool = "disable_parallel_tool_use",
    }
}

object! {
    /// `thinking`.
    pub struct Thinking {
        /// `enabled`, `adaptive`, `between_tools` or `disabled`.
        required kind: String = "type",
        /// The maximum number of reasoning tokens, for the type `enabled`.
        optional budget_tokens: i64 = "budget_tokens",
        /// Whether to show the reasoning: `summarized`, `omitted` or `updates`.
        optional display: String = "display",
    }
}

object! {
    /// `output_config`.
    pub struct OutputConfig {
        /// How thorough the answer should be: `low`, `medium`, `high`, `xhigh` or `max`.
        optional effort: String = "effort",
        /// The format of the answer.
        optional format: OutputFormat = "format",
    }
}

object! {
    /// `output_config.format`.
    pub struct OutputFormat {
        /// `json_schema`.
        required kind: String = "type",
        /// The schema.
        free schema: Value = "schema",
    }
}
