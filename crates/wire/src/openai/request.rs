//! The request of `POST /v1/chat/completions`.
//!
//! Types and names only. `loggia-api` checks the ranges of the values (`temperature` from 0 to 2,
//! at most four stop strings).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::function::has_long_number;
use super::{FunctionDefinition, Message, ResponseFormat, Tool, ToolChoice, ToolMode};
use crate::object::object;

object! {
    /// `CreateChatCompletionRequest`: the request of `POST /v1/chat/completions`.
    ///
    /// Unknown fields are kept in `extra` and written again:
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
        /// The name or an alias of the model.
        required model: String = "model",
        /// The conversation. `loggia-api` refuses an empty one.
        required messages: Vec<Message> = "messages",
        /// Whether to send the answer as server-sent events. Default: no.
        optional stream: bool = "stream",
        /// Options of the stream.
        optional stream_options: StreamOptions = "stream_options",
        /// The older name of `max_completion_tokens`, which takes precedence if both are present.
        optional max_tokens: i64 = "max_tokens",
        /// The maximum number of tokens to generate, reasoning included.
        optional max_completion_tokens: i64 = "max_completion_tokens",
        /// The temperature of the sampler, 0 to 2.
        optional temperature: f64 = "temperature",
        /// The probability mass for nucleus sampling, 0 to 1.
        optional top_p: f64 = "top_p",
        /// The number of choices.
        optional n: i64 = "n",
        /// The stop strings: one or several.
        optional stop: Stop = "stop",
        /// The presence penalty, −2 to 2.
        optional presence_penalty: f64 = "presence_penalty",
        /// The frequency penalty, −2 to 2.
        optional frequency_penalty: f64 = "frequency_penalty",
        /// The seed of the sampler. The same seed, model and engine give the same answer if the
        /// engine supports it.
        optional seed: i64 = "seed",
        /// A map from token id (as text) to bias, −100 to 100.
        free logit_bias: BTreeMap<String, f64> = "logit_bias",
        /// Whether to return log-probabilities of the generated tokens.
        optional logprobs: bool = "logprobs",
        /// The number of alternatives per token, 0 to 20. Requires `logprobs`.
        optional top_logprobs: i64 = "top_logprobs",
        /// The format of the answer: text, any JSON object, or JSON that matches a schema.
        optional response_format: ResponseFormat = "response_format",
        /// The tools that the model may call.
        optional tools: Vec<Tool> = "tools",
        /// Whether the model may, must or must not call tools, and which.
        optional tool_choice: ToolChoice = "tool_choice",
        /// Whether one answer may contain several tool calls. Default: yes.
        optional parallel_tool_calls: bool = "parallel_tool_calls",
        /// The older form of `tools`.
        optional functions: Vec<FunctionDefinition> = "functions",
        /// The older form of `tool_choice`: `"none"`, `"auto"` or `{"name": …}`.
        free function_call: Value = "function_call",
        /// How much to reason: `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.
        optional reasoning_effort: String = "reasoning_effort",
        /// Labels of the client.
        free metadata: BTreeMap<String, Value> = "metadata",
        /// Whether to store the answer.
        optional store: bool = "store",
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
        /// A hint: how verbose the answer should be.
        optional verbosity: String = "verbosity",
        /// A hint: text that the answer will probably contain.
        free prediction: Value = "prediction",
        /// The kinds of output. `["text"]` is the default.
        optional modalities: Vec<String> = "modalities",
        /// The voice and format of an audio answer.
        free audio: Value = "audio",
        /// Options of a web search.
        free web_search_options: Value = "web_search_options",
        /// Options of the moderation of prompt and answer.
        free moderation: Value = "moderation",
    }
}

impl ChatCompletionRequest {
    /// Returns the maximum number of tokens to generate, from either of its two fields. The newer
    /// takes precedence.
    pub fn token_limit(&self) -> Option<i64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Returns whether the client requested a stream.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Returns whether the model must call a tool: `tool_choice` is `required`, a tool, or
    /// `allowed_tools` in mode `required`.
    pub fn must_call(&self) -> bool {
        match &self.tool_choice {
            Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Other(_)) => true,
            Some(ToolChoice::Allowed { mode, .. }) => *mode == ToolMode::Required,
            Some(ToolChoice::None | ToolChoice::Auto) | None => false,
        }
    }

    /// Returns the functions that the model may call: no function if `tool_choice` is `none`, and
    /// only the listed functions if `tool_choice` lists some.
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

    /// Returns the number of choices, at least 1.
    pub fn choices(&self) -> usize {
        self.n
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1)
            .max(1)
    }
}

object! {
    /// `stream_options`: options of the stream.
    pub struct StreamOptions {
        /// Whether to send the usage in a last chunk.
        optional include_usage: bool = "include_usage",
        /// A hint: whether to add random padding, against eavesdroppers who measure lengths.
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

/// The stop strings: `"…"` or `["…", …]`.
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

impl ChatCompletionRequest {
    /// Sets `exact_parameters` of each function whose parameters contain a long number. `json` must
    /// be the JSON that this request was parsed from.
    pub fn keep_long_numbers(&mut self, json: &[u8]) {
        let has_functions = self.tools.is_some() || self.functions.is_some();
        if !has_functions || !has_long_number(json) {
            return;
        }
        let Ok(texts) = serde_json::from_slice::<Texts<'_>>(json) else {
            return;
        };
        let of_tools = self.tools.iter_mut().flatten();
        for (tool, text) in of_tools.zip(texts.tools.into_iter().flatten()) {
            let text = text.function.map(RawValue::get);
            if let (Some(function), Some(text)) = (&mut tool.function, text) {
                function.keep_exact_parameters(text);
            }
        }
        let functions = self.functions.iter_mut().flatten();
        for (function, text) in functions.zip(texts.functions.into_iter().flatten()) {
            function.keep_exact_parameters(text.get());
        }
    }
}

/// The JSON texts of the functions of a request.
#[derive(serde::Deserialize)]
struct Texts<'a> {
    #[serde(borrow)]
    tools: Option<Vec<ToolText<'a>>>,
    #[serde(borrow)]
    functions: Option<Vec<&'a RawValue>>,
}

#[derive(serde::Deserialize)]
struct ToolText<'a> {
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}
