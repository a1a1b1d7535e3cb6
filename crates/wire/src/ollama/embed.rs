//! `POST /api/embed`: the request and the answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Options;

/// The request of `POST /api/embed`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmbedRequest<'a> {
    /// The name of the model.
    pub model: &'a str,
    /// The texts to embed. Ollama returns no vector for an empty text.
    pub input: &'a [&'a str],
    /// If `false`, an input that is too long is an error. By default Ollama truncates it silently.
    pub truncate: bool,
    /// The length of the vectors. Ollama ignores it if it exceeds the length that the model
    /// produces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<i64>,
    /// Options of the engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded after the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<&'a Value>,
}

/// The answer of `POST /api/embed`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EmbedAnswer {
    /// One vector per text, in the order of the texts.
    pub embeddings: Vec<Vec<f32>>,
    /// The number of tokens of all texts. Older versions of Ollama do not send it.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
}
