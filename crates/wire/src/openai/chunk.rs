//! A streamed answer: `CreateChatCompletionStreamResponse`, one chunk at a time.

use super::{CompletionUsage, FinishReason, Logprobs, Role};
use crate::Extra;
use crate::object::object;

object! {
    /// `CreateChatCompletionStreamResponse`.
    pub struct ChatCompletionChunk {
        /// The same through the whole stream.
        required id: String = "id",
        /// `chat.completion.chunk`.
        required object: String = "object",
        /// Unix time in seconds; the same through the whole stream.
        required created: u64 = "created",
        /// The name the client asked for.
        required model: String = "model",
        /// Changes when backend, weights or engine version change.
        optional system_fingerprint: String = "system_fingerprint",
        /// What is new; empty on the chunk with the usage.
        required choices: Vec<ChunkChoice> = "choices",
        /// On a last chunk of its own, where asked for.
        optional usage: CompletionUsage = "usage",
    }
}

object! {
    /// What is new of one choice.
    pub struct ChunkChoice {
        /// Which of `n`.
        required index: u32 = "index",
        /// What is new.
        required delta: Delta = "delta",
        /// Log-probabilities of the tokens of this delta, where asked for.
        nullable logprobs: Logprobs = "logprobs",
        /// Why it ended: on the last chunk of the choice.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

object! {
    /// `ChatCompletionStreamResponseDelta`.
    pub struct Delta {
        /// `assistant`, on the first delta only.
        optional role: Role = "role",
        /// More of what is said.
        optional content: String = "content",
        /// More of what the model refuses to say.
        optional refusal: String = "refusal",
        /// More of the reasoning, as llama.cpp and `DeepSeek` name it.
        optional reasoning_content: String = "reasoning_content",
        /// The same, as Ollama and vLLM name it.
        optional reasoning: String = "reasoning",
        /// More of the calls.
        optional tool_calls: Vec<ToolCallDelta> = "tool_calls",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCallDelta = "function_call",
    }
}

object! {
    /// More of one call.
    pub struct ToolCallDelta {
        /// Which call.
        required index: u32 = "index",
        /// On its first delta.
        optional id: String = "id",
        /// `function`, on its first delta.
        optional kind: String = "type",
        /// More of its name and arguments.
        optional function: FunctionCallDelta = "function",
    }
}

object! {
    /// More of a called function.
    pub struct FunctionCallDelta {
        /// Its name, on the first delta.
        optional name: String = "name",
        /// More of its arguments.
        optional arguments: String = "arguments",
    }
}

impl Default for Delta {
    fn default() -> Self {
        Self {
            role: None,
            content: None,
            refusal: None,
            reasoning_content: None,
            reasoning: None,
            tool_calls: None,
            function_call: None,
            extra: Extra::new(),
        }
    }
}

impl Delta {
    /// More of what is said.
    pub fn content(text: impl Into<String>) -> Self {
        Self {
            content: Some(text.into()),
            ..Self::default()
        }
    }

    /// More of the reasoning, under both of its names: clients in use read one or the other.
    pub fn reasoning(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            reasoning_content: Some(text.clone()),
            reasoning: Some(text),
            ..Self::default()
        }
    }

    /// Whether it says nothing at all, the role apart.
    pub fn is_empty(&self) -> bool {
        self.content.is_none()
            && self.refusal.is_none()
            && self.reasoning_content.is_none()
            && self.reasoning.is_none()
            && self.tool_calls.is_none()
            && self.function_call.is_none()
            && self.extra.is_empty()
    }
}

impl ChunkChoice {
    /// A delta of the choice `index`.
    pub fn delta(index: u32, delta: Delta) -> Self {
        Self {
            index,
            delta,
            logprobs: None,
            finish_reason: None,
            extra: Extra::new(),
        }
    }

    /// The end of the choice `index`.
    pub fn finish(index: u32, reason: FinishReason) -> Self {
        Self {
            finish_reason: Some(reason),
            ..Self::delta(index, Delta::default())
        }
    }
}
