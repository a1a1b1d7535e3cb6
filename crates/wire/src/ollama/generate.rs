//! `POST /api/generate`: the request and the lines of the answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChatLine, LineMessage, Options};
use crate::openai::TokenLogprob;

/// The request of `POST /api/generate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GenerateRequest {
    /// The name of the model.
    pub model: String,
    /// The text to continue. If empty, the request only loads the model
    /// (`fixtures/ollama/generate/empty-prompt-loads`).
    pub prompt: String,
    /// The text after the gap to fill. The model's template combines it with the prompt, so `raw`
    /// must not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Whether Ollama uses the prompt unchanged, without a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<bool>,
    /// Whether to stream the answer. Always sent, because Ollama's default is true.
    pub stream: bool,
    /// Options of the sampler and the engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded after the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
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

/// One line of a streamed answer, or a complete answer. It differs from a chat's line only in the
/// text field.
#[derive(Clone, Debug, Deserialize)]
pub struct GenerateLine<'a> {
    /// The time of the line, as RFC 3339 with nanoseconds.
    #[serde(borrow, default)]
    pub created_at: Cow<'a, str>,
    /// A piece of the text. Absent only on a line with an error.
    #[serde(borrow, default)]
    pub response: Option<Cow<'a, str>>,
    /// Whether this is the last line.
    #[serde(default)]
    pub done: bool,
    /// `stop`, `length`, `load` or `unload`. Only on the last line.
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    /// The number of prompt tokens, on the last line.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    /// The number of generated tokens, on the last line.
    #[serde(default)]
    pub eval_count: Option<u64>,
    /// The log-probabilities of the tokens of this line.
    #[serde(default)]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// An error after the stream began. Such a line has no other field.
    #[serde(borrow, default)]
    pub error: Option<Cow<'a, str>>,
}

impl<'a> From<GenerateLine<'a>> for ChatLine<'a> {
    fn from(line: GenerateLine<'a>) -> Self {
        let GenerateLine {
            created_at,
            response,
            done,
            done_reason,
            prompt_eval_count,
            eval_count,
            logprobs,
            error,
        } = line;
        let message = response.map(|content| LineMessage {
            content,
            ..LineMessage::default()
        });
        Self {
            created_at,
            message,
            done,
            done_reason,
            prompt_eval_count,
            eval_count,
            logprobs,
            error,
        }
    }
}
