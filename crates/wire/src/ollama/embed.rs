//! `POST /api/embed`: the request, and its answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Options;

/// The request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmbedRequest<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Texts. An empty one yields no vector.
    pub input: &'a [&'a str],
    /// `false` makes an input that does not fit an error instead of a silent cut.
    pub truncate: bool,
    /// How long the vectors are to be; ignored where it is more than the model makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<i64>,
    /// The engine.
    #[serde(skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How long the model stays loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<&'a Value>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EmbedAnswer {
    /// One for each text, in their order.
    pub embeddings: Vec<Vec<f32>>,
    /// Tokens of all texts together; older versions do not tell.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
}
