//! `POST /api/generate`: the request, and the lines that come back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChatLine, LineMessage, Options};
use crate::openai::TokenLogprob;

/// The request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GenerateRequest {
    /// The model's name.
    pub model: String,
    /// What is to be continued. Empty only loads the model
    /// (`fixtures/ollama/generate/empty-prompt-loads`).
    pub prompt: String,
    /// What comes after it. Then the model's template puts the two together, so `raw` must not be
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Whether the prompt is read as it is, without a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<bool>,
    /// Always sent: Ollama's own default is true.
    pub stream: bool,
    /// Sampling and the engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
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

/// One line of a streamed answer, or a whole one: as a chat's, but for the text.
#[derive(Clone, Debug, Deserialize)]
pub struct GenerateLine<'a> {
    /// RFC 3339 with nanoseconds.
    #[serde(borrow, default)]
    pub created_at: Cow<'a, str>,
    /// More text. Every line but one with an error has it.
    #[serde(borrow, default)]
    pub response: Option<Cow<'a, str>>,
    /// Whether this is the last line.
    #[serde(default)]
    pub done: bool,
    /// `stop`, `length`, `load`, `unload`; on the last line.
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    /// Tokens of the prompt, on the last line.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    /// Tokens of the answer, on the last line.
    #[serde(default)]
    pub eval_count: Option<u64>,
    /// Log-probabilities of the tokens of this line.
    #[serde(default)]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// What went wrong after the stream had begun; such a line has nothing else.
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
