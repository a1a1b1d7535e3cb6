//! What models there are (`/api/tags`), what each can do (`/api/show`), which are loaded
//! (`/api/ps`).

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Extra;

/// `GET /api/tags`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Tags {
    /// The models on disk.
    #[serde(default)]
    pub models: Vec<ListedModel>,
}

/// A model on disk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ListedModel {
    /// With its tag: `smollm2:135m`.
    pub name: String,
    /// RFC 3339.
    #[serde(default)]
    pub modified_at: String,
    /// Bytes on disk.
    #[serde(default)]
    pub size: u64,
    /// Of its manifest.
    #[serde(default)]
    pub digest: String,
    /// What it is.
    #[serde(default)]
    pub details: Details,
}

/// What a model is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Details {
    /// `llama`, `gemma3`, …
    #[serde(default)]
    pub family: String,
    /// `134.52M`.
    #[serde(default)]
    pub parameter_size: String,
    /// `Q4_1`.
    #[serde(default)]
    pub quantization_level: String,
}

/// The request of `POST /api/show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShowRequest<'a> {
    /// The model's name.
    pub model: &'a str,
}

/// The request of `DELETE /api/delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeleteRequest<'a> {
    /// The model's name.
    pub model: &'a str,
}

/// The request of `POST /api/generate` that unloads a model once its answers have ended: no prompt,
/// and a time to stay of zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnloadRequest<'a> {
    /// The model's name.
    pub model: &'a str,
    /// 0.
    pub keep_alive: u32,
}

impl<'a> UnloadRequest<'a> {
    /// Unloads this model.
    pub fn new(model: &'a str) -> Self {
        Self {
            model,
            keep_alive: 0,
        }
    }
}

/// `POST /api/show`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Show {
    /// Parameters of the Modelfile, as text: one `name   value` a line.
    #[serde(default)]
    pub parameters: String,
    /// What it is.
    #[serde(default)]
    pub details: Details,
    /// The weights' own metadata, `<architecture>.context_length` among it.
    #[serde(default)]
    pub model_info: Extra,
    /// `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`, `audio`.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Show {
    /// The context size that the model was trained for, in tokens.
    pub fn context_length(&self) -> Option<u64> {
        let architecture = self
            .model_info
            .get("general.architecture")
            .and_then(Value::as_str)?;
        self.model_info
            .get(&format!("{architecture}.context_length"))
            .and_then(Value::as_u64)
    }

    /// The context size that the Modelfile sets, in tokens.
    pub fn num_ctx(&self) -> Option<u64> {
        self.parameter("num_ctx")
    }

    /// The most tokens of an answer that the Modelfile sets; none below 0.
    pub fn num_predict(&self) -> Option<i64> {
        self.parameter("num_predict")
    }

    fn parameter<T: FromStr>(&self, name: &str) -> Option<T> {
        self.parameters
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// `GET /api/ps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunningModels {
    /// The models in memory.
    #[serde(default)]
    pub models: Vec<RunningModel>,
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunningModel {
    /// With its tag.
    pub name: String,
    /// The context size it was loaded with, in tokens; older versions do not tell.
    #[serde(default)]
    pub context_length: Option<u64>,
}

/// `GET /api/version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// `0.33.0`.
    pub version: String,
}
