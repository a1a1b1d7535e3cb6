//! `POST /v1/chat/completions`: what a client asks.
//!
//! Types and names only. Ranges (`temperature` from 0 to 2, four stop strings) are checked once, at
//! the door (`loggia-api`).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::{FunctionDefinition, Message, ResponseFormat, Tool, ToolChoice, ToolMode};
use crate::object::object;

object! {
    /// `CreateChatCompletionRequest`.
    ///
    /// Fields that the type does not know are kept in `extra` and written again:
    ///
    /// ```
    /// use loggia_wire::openai::ChatCompletionRequest;
    ///
    /// let json = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"top_k":5}"#;
    /// let request: ChatCompletionRequest = serde_json::from_str(json)?;
    /// assert_eq!(request.extra["top_k"], 5);
    /// assert_eq!(serde_json::to_string(&request)?, json);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub struct ChatCompletionRequest {
        /// The model's name or an alias of it.
        required model: String = "model",
        /// The conversation so far. Empty is refused at the door.
        required messages: Vec<Message> = "messages",
        /// Whether to send the answer as server-sent events; absent means no.
        optional stream: bool = "stream",
        /// What a stream carries besides the answer.
        optional stream_options: StreamOptions = "stream_options",
        /// The older name of `max_completion_tokens`, which wins where both are there.
        optional max_tokens: i64 = "max_tokens",
        /// The most tokens to generate, reasoning included.
        optional max_completion_tokens: i64 = "max_completion_tokens",
        /// 0 to 2.
        optional temperature: f64 = "temperature",
        /// 0 to 1.
        optional top_p: f64 = "top_p",
        /// How many answers to give.
        optional n: i64 = "n",
        /// Where to stop: one string or several.
        optional stop: Stop = "stop",
        /// −2 to 2.
        optional presence_penalty: f64 = "presence_penalty",
        /// −2 to 2.
        optional frequency_penalty: f64 = "frequency_penalty",
        /// The same seed, model and engine give the same answer where the engine can.
        optional seed: i64 = "seed",
        /// Token id (as text) to a bias from −100 to 100.
        free logit_bias: BTreeMap<String, f64> = "logit_bias",
        /// Whether to send log-probabilities of the tokens of the answer.
        optional logprobs: bool = "logprobs",
        /// How many alternatives with each token, 0 to 20; needs `logprobs`.
        optional top_logprobs: i64 = "top_logprobs",
        /// Text, any JSON, or JSON of a schema.
        optional response_format: ResponseFormat = "response_format",
        /// What the model may call.
        optional tools: Vec<Tool> = "tools",
        /// Whether it may, must, or must not call, and what.
        optional tool_choice: ToolChoice = "tool_choice",
        /// Whether several calls may come in one answer; absent means yes.
        optional parallel_tool_calls: bool = "parallel_tool_calls",
        /// The older form of `tools`.
        optional functions: Vec<FunctionDefinition> = "functions",
        /// The older form of `tool_choice`: `"none"`, `"auto"` or `{"name": …}`.
        free function_call: Value = "function_call",
        /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`: how long to think.
        optional reasoning_effort: String = "reasoning_effort",
        /// Labels of the client's own.
        free metadata: BTreeMap<String, Value> = "metadata",
        /// Whether OpenAI keeps the answer.
        optional store: bool = "store",
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
        /// A hint: how long-winded the answer should be.
        optional verbosity: String = "verbosity",
        /// A hint: text that the answer will probably contain.
        free prediction: Value = "prediction",
        /// What the answer is made of; `["text"]` asks for nothing special.
        optional modalities: Vec<String> = "modalities",
        /// The voice and format of an answer in sound.
        free audio: Value = "audio",
        /// Asks for a search of the web.
        free web_search_options: Value = "web_search_options",
        /// Asks for moderation of prompt and answer.
        free moderation: Value = "moderation",
    }
}

impl ChatCompletionRequest {
    /// The most tokens to generate, whichever of its two names was used; the newer wins.
    pub fn token_limit(&self) -> Option<i64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether the model must call something: `tool_choice` `required`, a tool, or required ones of
    /// `allowed_tools`.
    pub fn must_call(&self) -> bool {
        match &self.tool_choice {
            Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Other(_)) => true,
            Some(ToolChoice::Allowed { mode, .. }) => *mode == ToolMode::Required,
            Some(ToolChoice::None | ToolChoice::Auto) | None => false,
        }
    }

    /// The functions that the model may call: none where `tool_choice` is `none`, only those named
    /// where it names some.
    pub fn callable_functions(&self) -> Vec<&FunctionDefinition> {
        let offered = self
            .tools
            .iter()
            .flatten()
            .filter_map(|tool| tool.function.as_ref());
        match &self.tool_choice {
            Some(ToolChoice::None | ToolChoice::Other(_)) => Vec::new(),
            Some(ToolChoice::Function(one)) => offered
                .filter(|function| function.name == one.name)
                .collect(),
            Some(ToolChoice::Allowed { functions, .. }) => offered
                .filter(|function| functions.iter().any(|one| one.name == function.name))
                .collect(),
            Some(ToolChoice::Auto | ToolChoice::Required) | None => offered.collect(),
        }
    }

    /// How many answers are wanted; at least one.
    pub fn choices(&self) -> usize {
        self.n
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1)
            .max(1)
    }
}

object! {
    /// `stream_options`.
    pub struct StreamOptions {
        /// Whether a last chunk with the usage is wanted.
        optional include_usage: bool = "include_usage",
        /// Random padding against eavesdroppers on the length; a hint.
        optional include_obfuscation: bool = "include_obfuscation",
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            include_usage: None,
            include_obfuscation: None,
            extra: crate::Extra::new(),
        }
    }
}

/// The strings at which to stop: `"…"` or `["…", …]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stop(pub Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StopVisitor;
        impl<'de> Visitor<'de> for StopVisitor {
            type Value = Stop;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, one: &str) -> Result<Stop, E> {
                Ok(Stop(vec![one.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Stop, A::Error> {
                let mut stop = Vec::new();
                while let Some(item) = items.next_element()? {
                    stop.push(item);
                }
                Ok(Stop(stop))
            }
        }
        deserializer.deserialize_any(StopVisitor)
    }
}
