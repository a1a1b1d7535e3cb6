//! `POST /api/chat`: the request, and the lines that come back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::openai::{TokenLogprob, Tool};
use crate::{Extra, JsonText};

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation. Empty only loads the model.
    pub messages: Vec<ChatMessage>,
    /// Always sent: Ollama's own default is true.
    pub stream: bool,
    /// `"json"`, or a JSON schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    /// Sampling and the engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
    /// In OpenAI's shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether, and how hard, to think.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// `false` makes a prompt that does not fit an error instead of a silent cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// `false` ends a generation at the end of the context instead of dropping the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<bool>,
    /// Whether to send log-probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// How many alternatives with each token, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<i64>,
}

/// A message of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool`. Ollama accepts any other in silence, and templates
    /// drop it.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Earlier reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Earlier calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The function whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// The call whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// An earlier call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    /// What the tool message that answers it names.
    pub id: String,
    /// What was called.
    pub function: FunctionCall,
}

/// A called function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionCall {
    /// Rising within a message.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// An object, not a string.
    pub arguments: JsonText,
}

/// `options`. Those that OpenAI's API has no field for go into `others` as they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Options {
    /// The most tokens to generate. 0 would generate without an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_predict: Option<i64>,
    /// The context size in tokens; a change reloads the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u64>,
    /// The seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Presence penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Frequency penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Stop strings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// `top_k`, `min_p`, `num_gpu`, …
    #[serde(flatten)]
    pub others: Extra,
}

impl Options {
    /// `num_predict`, whether it is set by its own field or among the others.
    pub fn limit(&self) -> Option<i64> {
        let in_others = || self.others.get("num_predict")?.as_i64();
        self.num_predict.or_else(in_others)
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `think`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Think {
    /// Yes or no.
    Switch(bool),
    /// `low`, `medium`, `high`, `max`.
    Level(String),
}

/// One line of a streamed answer, or a whole one.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatLine<'a> {
    /// RFC 3339 with nanoseconds.
    #[serde(borrow, default)]
    pub created_at: Cow<'a, str>,
    /// What is new; all of it where the answer is whole. Every line but one with an error has it.
    #[serde(borrow, default)]
    pub message: Option<LineMessage<'a>>,
    /// Whether this is the last line.
    #[serde(default)]
    pub done: bool,
    /// `stop`, `length`, `load`, `unload`; on the last line.
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    /// Tokens of the prompt, on the last line. A count of zero is left out.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    /// Tokens of the answer, on the last line. A count of zero is left out.
    #[serde(default)]
    pub eval_count: Option<u64>,
    /// Log-probabilities of the tokens of this line.
    #[serde(default)]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// What went wrong after the stream had begun; such a line has nothing else.
    #[serde(borrow, default)]
    pub error: Option<Cow<'a, str>>,
}

/// The message of a line.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LineMessage<'a> {
    /// More text.
    #[serde(borrow, default)]
    pub content: Cow<'a, str>,
    /// More reasoning.
    #[serde(borrow, default)]
    pub thinking: Option<Cow<'a, str>>,
    /// Calls, each whole.
    #[serde(borrow, default)]
    pub tool_calls: Vec<LineToolCall<'a>>,
}

/// A call, as a line brings it.
#[derive(Clone, Debug, Deserialize)]
pub struct LineToolCall<'a> {
    /// `call_…`; older versions send none.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// What is called.
    #[serde(borrow)]
    pub function: LineFunction<'a>,
}

/// A called function, as a line brings it.
#[derive(Clone, Debug, Deserialize)]
pub struct LineFunction<'a> {
    /// Rising through the answer; older versions send none.
    #[serde(default)]
    pub index: Option<u32>,
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// An object; kept as the bytes it came in.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}
