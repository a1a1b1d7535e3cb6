//! A message of a conversation, as the client sends it.

use serde_json::Value;

use super::{Content, FunctionCall, ToolCall};
use crate::object::{object, words};

words! {
    /// The role of a message: its author.
    pub enum Role {
        /// Instructions (newer name of `system`).
        Developer = "developer",
        /// Instructions.
        System = "system",
        /// The end user.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// The result of a tool call.
        Tool = "tool",
        /// The result of a function call (older form of `tool`).
        Function = "function",
    }
}

object! {
    /// `ChatCompletionRequestMessage`: a message of any role.
    pub struct Message {
        /// The author of the message.
        required role: Role = "role",
        /// The content. Absent or `null` if the assistant only called tools.
        optional content: Content = "content",
        /// The name of the author, or of the function if the role is `function`.
        optional name: String = "name",
        /// Tool calls of an earlier answer.
        optional tool_calls: Vec<ToolCall> = "tool_calls",
        /// The id of the call whose result a `tool` message contains.
        optional tool_call_id: String = "tool_call_id",
        /// The text of an earlier refusal by the model.
        optional refusal: String = "refusal",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCall = "function_call",
        /// The reasoning of an earlier answer, under the name that llama.cpp and `DeepSeek` use.
        optional reasoning_content: String = "reasoning_content",
        /// The reasoning of an earlier answer, under the name that Ollama and vLLM use.
        optional reasoning: String = "reasoning",
        /// An earlier audio answer.
        free audio: Value = "audio",
    }
}

impl Message {
    /// Creates a message that contains only text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: None,
            tool_call_id: None,
            refusal: None,
            function_call: None,
            reasoning_content: None,
            reasoning: None,
            audio: None,
            extra: crate::Extra::new(),
        }
    }

    /// Returns the reasoning of an earlier answer, from either of its two fields.
    pub fn earlier_reasoning(&self) -> Option<&str> {
        self.reasoning_content
            .as_deref()
            .or(self.reasoning.as_deref())
    }
}
