//! A message of a conversation, as the client sends it.

use serde_json::Value;

use super::{Content, FunctionCall, ToolCall};
use crate::object::{object, words};

words! {
    /// Who speaks.
    pub enum Role {
        /// Instructions, by the newer name.
        Developer = "developer",
        /// Instructions.
        System = "system",
        /// The person.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// The result of a tool call.
        Tool = "tool",
        /// The result of a function call, the older form.
        Function = "function",
    }
}

object! {
    /// `ChatCompletionRequestMessage`, of any role.
    pub struct Message {
        /// Who speaks.
        required role: Role = "role",
        /// What is said; absent or `null` where the assistant only called tools.
        optional content: Content = "content",
        /// The speaker's name, or the function's where the role is `function`.
        optional name: String = "name",
        /// What the assistant called.
        optional tool_calls: Vec<ToolCall> = "tool_calls",
        /// Which call a `tool` message answers.
        optional tool_call_id: String = "tool_call_id",
        /// What the assistant refused to say.
        optional refusal: String = "refusal",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCall = "function_call",
        /// The assistant's earlier reasoning, as llama.cpp and `DeepSeek` name it.
        optional reasoning_content: String = "reasoning_content",
        /// The assistant's earlier reasoning, as Ollama and vLLM name it.
        optional reasoning: String = "reasoning",
        /// An earlier answer in sound.
        free audio: Value = "audio",
    }
}

impl Message {
    /// A message that is only text.
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

    /// The assistant's earlier reasoning, whichever of its two names was used.
    pub fn earlier_reasoning(&self) -> Option<&str> {
        self.reasoning_content
            .as_deref()
            .or(self.reasoning.as_deref())
    }
}
