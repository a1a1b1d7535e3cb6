//! What a client asks of `POST /v1/responses`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::Item;
use crate::object::object;
use crate::openai::Stop;

object! {
    /// `CreateResponse`.
    pub struct ResponseRequest {
        /// The model's name or an alias of it.
        required model: String = "model",
        /// A text, or items: messages, calls and their outputs, reasoning.
        optional input: Input = "input",
        /// A system message before the input.
        optional instructions: String = "instructions",
        /// Whether to send the response as server-sent events; absent means no.
        optional stream: bool = "stream",
        /// What a stream carries besides the response.
        optional stream_options: ResponseStreamOptions = "stream_options",
        /// What the model may call.
        optional tools: Vec<ResponseTool> = "tools",
        /// Whether the model may, must, or must not call, and what.
        free tool_choice: Value = "tool_choice",
        /// Whether several calls may come in one response; absent means yes.
        optional parallel_tool_calls: bool = "parallel_tool_calls",
        /// The most calls of built-in tools.
        optional max_tool_calls: i64 = "max_tool_calls",
        /// The form of the text.
        optional text: TextConfig = "text",
        /// How long to reason, and whether to show it.
        optional reasoning: Reasoning = "reasoning",
        /// What to send beside the usual.
        optional include: Vec<String> = "include",
        /// How many alternatives with each token, 0 to 20.
        optional top_logprobs: i64 = "top_logprobs",
        /// 0 to 2.
        optional temperature: f64 = "temperature",
        /// 0 to 1.
        optional top_p: f64 = "top_p",
        /// The most tokens to generate, reasoning included.
        optional max_output_tokens: i64 = "max_output_tokens",
        /// `auto` or `disabled`.
        optional truncation: String = "truncation",
        /// Labels of the client's own; the response repeats them.
        free metadata: BTreeMap<String, Value> = "metadata",
        /// Whether the server keeps the response; absent means yes.
        optional store: bool = "store",
        /// The response that this one goes on from.
        optional previous_response_id: String = "previous_response_id",
        /// The conversation that this response belongs to: an id, or an object with one.
        free conversation: Value = "conversation",
        /// Whether to answer at once and go on without the client.
        optional background: bool = "background",
        /// When a background response has to be ready.
        free background_options: Value = "background_options",
        /// A prompt template that is stored at OpenAI.
        free prompt: Value = "prompt",
        /// When to compact the context.
        free context_management: Value = "context_management",
        /// Asks for moderation of input and output.
        free moderation: Value = "moderation",
        /// Labels of the client's own that the response does not repeat; Codex sends them.
        free client_metadata: Value = "client_metadata",
        /// Access programs of OpenAI's.
        free access_programs: Value = "access_programs",
        /// How images are compressed.
        free image: Value = "image",
        /// The older name of `safety_identifier`.
        optional user: String = "user",
        /// A label for the end user.
        optional safety_identifier: String = "safety_identifier",
        /// A hint for the prompt cache.
        optional prompt_cache_key: String = "prompt_cache_key",
        /// A hint for the prompt cache.
        optional prompt_cache_retention: String = "prompt_cache_retention",
        /// A hint for the prompt cache.
        free prompt_cache_options: Value = "prompt_cache_options",
        /// A hint for OpenAI's scheduling.
        optional service_tier: String = "service_tier",
        /// The older place of `text.verbosity`; the Python SDK's `parse` sends it.
        optional verbosity: String = "verbosity",
        /// As in a chat: OpenAI's Responses API does not have it.
        optional seed: i64 = "seed",
        /// As in a chat: OpenAI's Responses API does not have it.
        optional stop: Stop = "stop",
        /// As in a chat: OpenAI's Responses API does not have it.
        optional presence_penalty: f64 = "presence_penalty",
        /// As in a chat: OpenAI's Responses API does not have it.
        optional frequency_penalty: f64 = "frequency_penalty",
    }
}

impl ResponseRequest {
    /// Whether the response is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether `include` asks for this.
    pub fn includes(&self, what: &str) -> bool {
        self.include.iter().flatten().any(|one| one == what)
    }
}

/// `input`: `"…"` or a list of items.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// One text of the user's.
    Text(String),
    /// Items, in order.
    Items(Vec<Item>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputVisitor;
        impl<'de> Visitor<'de> for InputVisitor {
            type Value = Input;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of items")
            }
            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Input, E> {
                Ok(Input::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Input, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Input::Items(all))
            }
        }
        deserializer.deserialize_any(InputVisitor)
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Items(items) => items.serialize(serializer),
        }
    }
}

object! {
    /// `ResponseStreamOptions`.
    pub struct ResponseStreamOptions {
        /// Random padding against eavesdroppers on the length.
        optional include_obfuscation: bool = "include_obfuscation",
    }
}

object! {
    /// One entry of `tools`, of any type. What belongs to hosted tools alone is in `extra`.
    pub struct ResponseTool {
        /// `function`, `custom`, `namespace`, `local_shell`, `web_search`, …
        required kind: String = "type",
        /// What a call names; of a namespace, what stands before the names in it.
        optional name: String = "name",
        /// What it does, for the model.
        optional description: String = "description",
        /// A JSON schema of the arguments.
        free parameters: Value = "parameters",
        /// Whether the arguments must keep to the schema.
        optional strict: bool = "strict",
        /// The form of a custom tool's input: text, or a grammar.
        free format: Value = "format",
        /// The functions and custom tools of a namespace.
        optional tools: Vec<ResponseTool> = "tools",
        /// Who runs a tool search: `server` or `client`.
        optional execution: String = "execution",
        /// Whether the tool is to be found by a search first.
        optional defer_loading: bool = "defer_loading",
        /// Whether the output may come later than in the next request.
        optional is_async: bool = "async",
    }
}

object! {
    /// `text`.
    pub struct TextConfig {
        /// Text, any JSON, or JSON of a schema.
        optional format: TextFormat = "format",
        /// A hint: how long-winded the answer should be.
        optional verbosity: String = "verbosity",
    }
}

object! {
    /// `text.format`. The fields of a schema stand beside the type.
    pub struct TextFormat {
        /// `text`, `json_object` or `json_schema`.
        required kind: String = "type",
        /// The client's name for the schema.
        optional name: String = "name",
        /// What the schema is for, for the model.
        optional description: String = "description",
        /// The schema, an object.
        free schema: Value = "schema",
        /// Whether the answer must keep to the schema to the letter.
        optional strict: bool = "strict",
    }
}

object! {
    /// `reasoning`.
    pub struct Reasoning {
        /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`.
        optional effort: String = "effort",
        /// Whether to show a summary: `auto`, `concise`, `detailed`.
        optional summary: String = "summary",
        /// The older name of `summary`.
        optional generate_summary: String = "generate_summary",
        /// Which turns' reasoning the model sees again.
        optional context: String = "context",
        /// A mode of OpenAI's models.
        optional mode: String = "mode",
    }
}
