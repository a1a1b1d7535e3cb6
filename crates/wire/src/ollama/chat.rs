//! `POST /api/chat`: the request and the lines of the answer.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::openai::{TokenLogprob, Tool};
use crate::{Extra, JsonText};

/// The request of `POST /api/chat`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatRequest {
    /// The name of the model.
    pub model: String,
    /// The conversation. If empty, the request only loads the model.
    pub messages: Vec<ChatMessage>,
    /// Whether to stream the answer. Always sent, because Ollama's default is true.
    pub stream: bool,
    /// The format of the answer: `"json"` or a JSON schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    /// Options of the sampler and the engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded after the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
    /// The tools, in OpenAI's format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether to reason, and how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// If `false`, a prompt that is too long is an error. By default Ollama truncates it silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// If `false`, generation stops at the end of the context. By default Ollama drops the
    /// beginning of the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<bool>,
    /// Whether to return log-probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// The number of alternatives per token, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<i64>,
}

/// A message of a chat request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`. Ollama accepts any other role silently, and
    /// templates drop the message.
    pub role: &'static str,
    /// The text of the message.
    pub content: String,
    /// The reasoning of an earlier answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Images, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Tool calls of an earlier answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The name of the function whose result this message contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// The id of the call whose result this message contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A tool call of an earlier answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    /// The id of the call, which the `tool` message with the result repeats.
    pub id: String,
    /// The called function.
    pub function: FunctionCall,
}

/// The name and arguments of a called function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionCall {
    /// The number of the call within the message, ascending.
    pub index: u32,
    /// The name of the function.
    pub name: String,
    /// The arguments: a JSON object, not a string.
    pub arguments: JsonText,
}

/// `options` of a request. Options without a counterpart in OpenAI's API are in `others`,
/// unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Options {
    /// The maximum number of tokens to generate. 0 means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_predict: Option<i64>,
    /// The context size in tokens. Ollama reloads the model if it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u64>,
    /// The seed of the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// The temperature of the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The probability mass for nucleus sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The presence penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// The frequency penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// The stop strings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Other options: `top_k`, `min_p`, `num_gpu`, …
    #[serde(flatten)]
    pub others: Extra,
}

impl Options {
    /// Returns `num_predict`, from its own field or from `others`.
    pub fn limit(&self) -> Option<i64> {
        let in_others = || self.others.get("num_predict")?.as_i64();
        self.num_predict.or_else(in_others)
    }

    /// Returns whether no option is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `think`: whether to reason, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Think {
    /// Reasoning on or off.
    Switch(bool),
    /// The effort: `low`, `medium`, `high` or `max`.
    Level(String),
}

/// One line of a streamed answer, or a complete answer.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatLine<'a> {
    /// The time of the line, as RFC 3339 with nanoseconds.
    #[serde(borrow, default)]
    pub created_at: Cow<'a, str>,
    /// The new part of the answer, or the complete answer without streaming. Absent only on a line
    /// with an error.
    #[serde(borrow, default)]
    pub message: Option<LineMessage<'a>>,
    /// Whether this is the last line.
    #[serde(default)]
    pub done: bool,
    /// `stop`, `length`, `load` or `unload`. Only on the last line.
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    /// The number of prompt tokens, on the last line. Ollama omits it if it is 0.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    /// The number of generated tokens, on the last line. Ollama omits it if it is 0.
    #[serde(default)]
    pub eval_count: Option<u64>,
    /// The log-probabilities of the tokens of this line.
    #[serde(default)]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// An error after the stream began. Such a line has no other field.
    #[serde(borrow, default)]
    pub error: Option<Cow<'a, str>>,
}

impl<'a> ChatLine<'a> {
    /// Parses a line with a piece of text and nothing else, as Ollama sends it for nearly every
    /// token, much faster than serde does. Returns `None` for any other line, and for text with
    /// escapes; parse such a line with serde.
    pub fn of_text(line: &'a str) -> Option<Self> {
        let (_, rest) = plain_string(line.strip_prefix(r#"{"model":""#)?)?;
        let (created_at, rest) = plain_string(rest.strip_prefix(r#","created_at":""#)?)?;
        let rest = rest.strip_prefix(r#","message":{"role":"assistant","content":""#)?;
        let (content, rest) = plain_string(rest)?;
        if rest != r#"},"done":false}"# {
            return None;
        }
        Some(Self {
            created_at: created_at.into(),
            message: Some(LineMessage {
                content: content.into(),
                thinking: None,
                tool_calls: Vec::new(),
            }),
            done: false,
            done_reason: None,
            prompt_eval_count: None,
            eval_count: None,
            logprobs: None,
            error: None,
        })
    }
}

/// Splits the text after the opening quote of a JSON string into the string and what follows it.
/// Returns `None` for a string with escapes, and for one that is invalid.
fn plain_string(text: &str) -> Option<(&str, &str)> {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    let (string, rest) = text.split_at(text.bytes().position(is_special)?);
    Some((string, rest.strip_prefix('"')?))
}

/// The message of a line.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LineMessage<'a> {
    /// A piece of the text.
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    pub content: Cow<'a, str>,
    /// A piece of the reasoning.
    #[serde(borrow, default)]
    pub thinking: Option<Cow<'a, str>>,
    /// Tool calls. Each is complete.
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    pub tool_calls: Vec<LineToolCall<'a>>,
}

/// Reads `null` as an absent field. Ollama omits such a field; servers that imitate it send `null`.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A tool call on a line of the answer.
#[derive(Clone, Debug, Deserialize)]
pub struct LineToolCall<'a> {
    /// The id, `call_…`. Older versions of Ollama do not send it.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// The called function.
    #[serde(borrow)]
    pub function: LineFunction<'a>,
}

/// The called function of a tool call on a line of the answer.
#[derive(Clone, Debug, Deserialize)]
pub struct LineFunction<'a> {
    /// The number of the call within the answer, ascending. Older versions of Ollama do not send
    /// it.
    #[serde(default)]
    pub index: Option<u32>,
    /// The name of the function.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The arguments: a JSON object, unparsed.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"model":"m","created_at":"2026-01-02T03:04:05.6Z","message":{"role":"assistant","content":" thé"},"done":false}"#;

    #[test]
    fn a_line_with_text_needs_no_serde() {
        let line = ChatLine::of_text(LINE).expect("a line with text");
        let by_serde: ChatLine<'_> = serde_json::from_str(LINE).expect("JSON");
        assert_eq!(format!("{line:?}"), format!("{by_serde:?}"));
    }

    #[test]
    fn null_in_a_message_is_as_an_absent_field() {
        let null = r#"{"message":{"content":null,"thinking":null,"tool_calls":null}}"#;
        let null: ChatLine<'_> = serde_json::from_str(null).expect("a line");
        let absent: ChatLine<'_> = serde_json::from_str(r#"{"message":{}}"#).expect("a line");
        assert_eq!(format!("{null:?}"), format!("{absent:?}"));
    }

    proptest! {
        #[test]
        fn a_line_is_parsed_as_by_serde_or_not_at_all(
            at in 0usize..200, cut in 0usize..4, new in r#"["\\,:{}\na-c\u{1}\u{7f}é]{0,4}"#,
        ) {
            let mut line = LINE.to_owned();
            let from = line.floor_char_boundary(at);
            let to = line.floor_char_boundary((from + cut).min(line.len()));
            line.replace_range(from..to, &new);
            if let Some(parsed) = ChatLine::of_text(&line) {
                let by_serde: ChatLine<'_> = serde_json::from_str(&line).expect("JSON");
                prop_assert_eq!(format!("{parsed:?}"), format!("{by_serde:?}"));
            }
        }
    }
}
