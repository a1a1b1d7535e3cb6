//! A chunk of a streamed chat answer: `CreateChatCompletionStreamResponse`.

use super::{CompletionUsage, FinishReason, Logprobs, Role};
use crate::Extra;
use crate::object::object;

object! {
    /// `CreateChatCompletionStreamResponse`: a chunk of a streamed chat answer.
    pub struct ChatCompletionChunk {
        /// The id, `chatcmpl-…`; equal in all chunks of a stream.
        required id: String = "id",
        /// Always `chat.completion.chunk`.
        required object: String = "object",
        /// The creation time, as Unix time in seconds; equal in all chunks of a stream.
        required created: u64 = "created",
        /// The model name that the client sent.
        required model: String = "model",
        /// Changes if the backend, the weights or the version of the engine change.
        optional system_fingerprint: String = "system_fingerprint",
        /// The new parts of the choices. Empty in the chunk with the usage.
        required choices: Vec<ChunkChoice> = "choices",
        /// The number of tokens used, in a separate last chunk, if the client requested it.
        optional usage: CompletionUsage = "usage",
    }
}

object! {
    /// The new part of one choice.
    pub struct ChunkChoice {
        /// The number of the choice, from 0 to `n` − 1.
        required index: u32 = "index",
        /// The new part of the message.
        required delta: Delta = "delta",
        /// The log-probabilities of the tokens of this delta, if the client requested them.
        nullable logprobs: Logprobs = "logprobs",
        /// The reason why generation stopped, in the last chunk of the choice.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

object! {
    /// `ChatCompletionStreamResponseDelta`: the new part of a message.
    pub struct Delta {
        /// `assistant`, in the first delta only.
        optional role: Role = "role",
        /// A piece of the text.
        optional content: String = "content",
        /// A piece of a refusal.
        optional refusal: String = "refusal",
        /// A piece of the reasoning, under the name that llama.cpp and `DeepSeek` use.
        optional reasoning_content: String = "reasoning_content",
        /// A piece of the reasoning, under the name that Ollama and vLLM use.
        optional reasoning: String = "reasoning",
        /// Pieces of tool calls.
        optional tool_calls: Vec<ToolCallDelta> = "tool_calls",
        /// The older form of `tool_calls`.
        optional function_call: FunctionCallDelta = "function_call",
    }
}

object! {
    /// A piece of a tool call.
    pub struct ToolCallDelta {
        /// The number of the call that the piece belongs to.
        required index: u32 = "index",
        /// The id of the call, in its first delta.
        optional id: String = "id",
        /// `function`, in the first delta of the call.
        optional kind: String = "type",
        /// A piece of the function's name and arguments.
        optional function: FunctionCallDelta = "function",
    }
}

object! {
    /// A piece of a function's name and arguments.
    pub struct FunctionCallDelta {
        /// The name of the function, in the first delta of the call.
        optional name: String = "name",
        /// A piece of the arguments.
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
    /// Creates a delta with a piece of the text.
    pub fn content(text: impl Into<String>) -> Self {
        Self {
            content: Some(text.into()),
            ..Self::default()
        }
    }

    /// Creates a delta with a piece of the reasoning, under both names: some clients read one, some
    /// the other.
    pub fn reasoning(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            reasoning_content: Some(text.clone()),
            reasoning: Some(text),
            ..Self::default()
        }
    }

    /// Returns whether the delta is empty, apart from the role.
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
    /// Creates a chunk choice with a delta for the choice `index`.
    pub fn delta(index: u32, delta: Delta) -> Self {
        Self {
            index,
            delta,
            logprobs: None,
            finish_reason: None,
            extra: Extra::new(),
        }
    }

    /// Creates the chunk choice that ends the choice `index`.
    pub fn finish(index: u32, reason: FinishReason) -> Self {
        Self {
            finish_reason: Some(reason),
            ..Self::delta(index, Delta::default())
        }
    }
}
