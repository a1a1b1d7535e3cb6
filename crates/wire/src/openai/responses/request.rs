//! The request of `POST /v1/responses`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::Item;
use crate::object::object;
use crate::openai::Stop;

object! {
    /// `CreateResponse`: the request of `POST /v1/responses`.
    pub struct ResponseRequest {
        /// The name or an alias of the model.
        required model: String = "model",
        /// The input: a text, or items (messages, tool calls and their outputs, reasoning).
        optional input: Input = "input",
        /// A system message before the input.
        optional instructions: String = "instructions",
        /// Whether to send the response as server-sent events. Default: no.
        optional stream: bool = "stream",
        /// Options of the stream.
        optional stream_options: ResponseStreamOptions = "stream_options",
        /// The tools that the model may call.
        optional tools: Vec<ResponseTool> = "tools",
        /// Whether the model may, must or must not call tools, and which.
        free tool_choice: Value = "tool_choice",
        /// Whether one response may contain several tool calls. Default: yes.
        optional parallel_tool_calls: bool = "parallel_tool_calls",
        /// The maximum number of calls of built-in tools.
        optional max_tool_calls: i64 = "max_tool_calls",
        /// The format of the text.
        optional text: TextConfig = "text",
        /// How much to reason, and whether to return a summary.
        optional reasoning: Reasoning = "reasoning",
        /// Additional parts of the response, for example `message.output_text.logprobs`.
        optional include: Vec<String> = "include",
        /// The number of alternatives per token, 0 to 20.
        optional top_logprobs: i64 = "top_logprobs",
        /// The temperature of the sampler, 0 to 2.
        optional temperature: f64 = "temperature",
        /// The probability mass for nucleus sampling, 0 to 1.
        optional top_p: f64 = "top_p",
        /// The maximum number of tokens to generate, reasoning included.
        optional max_output_tokens: i64 = "max_output_tokens",
        /// Whether the server may shorten an input that is too long: `auto` or `disabled`.
        optional truncation: String = "truncation",
        /// Labels of the client. The response repeats them.
        free metadata: BTreeMap<String, Value> = "metadata",
        /// Whether the server stores the response. Default: yes.
        optional store: bool = "store",
        /// The id of the response that this one continues.
        optional previous_response_id: String = "previous_response_id",
        /// The conversation that this response belongs to: an id, or an object with one.
        free conversation: Value = "conversation",
        /// Whether the server answers at once and generates the response in the background.
        optional background: bool = "background",
        /// Options of a background response, such as its deadline.
        free background_options: Value = "background_options",
        /// A prompt template that is stored at OpenAI.
        free prompt: Value = "prompt",
        /// Options that let the server shorten (compact) the context.
        free context_management: Value = "context_management",
        /// Options of the moderation of input and output.
        free moderation: Value = "moderation",
        /// Labels of the client that the response does not repeat. Codex sends them.
        free client_metadata: Value = "client_metadata",
        /// Programs of OpenAI that give access to certain models.
        free access_programs: Value = "access_programs",
        /// The compression of images.
        free image: Value = "image",
        /// The older name of `safety_identifier`.
        optional user: String = "user",
        /// A label of the client for its end user.
        optional safety_identifier: String = "safety_identifier",
        /// A hint for the prompt cache: requests with the same key share prefixes.
        optional prompt_cache_key: String = "prompt_cache_key",
        /// A hint for the prompt cache: how long to keep it.
        optional prompt_cache_retention: String = "prompt_cache_retention",
        /// A hint for the prompt cache: further options.
        free prompt_cache_options: Value = "prompt_cache_options",
        /// A hint for the scheduling at OpenAI.
        optional service_tier: String = "service_tier",
        /// The older place of `text.verbosity`. The Python SDK's `parse` sends it.
        optional verbosity: String = "verbosity",
        /// The seed of the sampler. OpenAI has it for chats only.
        optional seed: i64 = "seed",
        /// The stop strings. OpenAI has them for chats only.
        optional stop: Stop = "stop",
        /// The presence penalty, −2 to 2. OpenAI has it for chats only.
        optional presence_penalty: f64 = "presence_penalty",
        /// The frequency penalty, −2 to 2. OpenAI has it for chats only.
        optional frequency_penalty: f64 = "frequency_penalty",
    }
}

impl ResponseRequest {
    /// Returns whether the client requested a stream.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Returns whether `include` contains `what`.
    pub fn includes(&self, what: &str) -> bool {
        self.include.iter().flatten().any(|one| one == what)
    }
}

/// `input`: a string or an array of items.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// One text of the user.
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
    /// `ResponseStreamOptions`: options of the stream.
    pub struct ResponseStreamOptions {
        /// A hint: whether to add random padding, against eavesdroppers who measure lengths.
        optional include_obfuscation: bool = "include_obfuscation",
    }
}

object! {
    /// An entry of `tools`, of any type. Fields that only hosted tools have are in `extra`.
    pub struct ResponseTool {
        /// `function`, `custom`, `namespace`, `local_shell`, `web_search`, …
        required kind: String = "type",
        /// The name of the tool, or the namespace's prefix for the names of its tools.
        optional name: String = "name",
        /// A description of the tool, for the model.
        optional description: String = "description",
        /// A JSON schema of the arguments.
        free parameters: Value = "parameters",
        /// Whether the arguments must match the schema exactly.
        optional strict: bool = "strict",
        /// The format of a custom tool's input: text or a grammar.
        free format: Value = "format",
        /// The functions and custom tools of a namespace.
        optional tools: Vec<ResponseTool> = "tools",
        /// Who runs a tool search: `server` or `client`.
        optional execution: String = "execution",
        /// Whether the model must find the tool by a tool search first.
        optional defer_loading: bool = "defer_loading",
        /// Whether the output of a call may come later than in the next request.
        optional is_async: bool = "async",
    }
}

object! {
    /// `text`: the format and verbosity of the text.
    pub struct TextConfig {
        /// The format: text, any JSON object, or JSON that matches a schema.
        optional format: TextFormat = "format",
        /// A hint: how verbose the answer should be.
        optional verbosity: String = "verbosity",
    }
}

object! {
    /// `text.format`: the format of the text. The fields of a schema are beside the type.
    pub struct TextFormat {
        /// `text`, `json_object` or `json_schema`.
        required kind: String = "type",
        /// The client's name for the schema.
        optional name: String = "name",
        /// A description of the schema, for the model.
        optional description: String = "description",
        /// The schema, an object.
        free schema: Value = "schema",
        /// Whether the answer must match the schema exactly.
        optional strict: bool = "strict",
    }
}

object! {
    /// `reasoning`: how much to reason, and whether to return a summary.
    pub struct Reasoning {
        /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.
        optional effort: String = "effort",
        /// The kind of summary: `auto`, `concise` or `detailed`.
        optional summary: String = "summary",
        /// The older name of `summary`.
        optional generate_summary: String = "generate_summary",
        /// The turns whose reasoning the model sees again.
        optional context: String = "context",
        /// A mode of OpenAI's own models.
        optional mode: String = "mode",
    }
}
