//! Models: the list (`/api/tags`), the properties of one (`/api/show`), the loaded ones
//! (`/api/ps`), unloading and deleting.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Extra;

/// The answer of `GET /api/tags`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Tags {
    /// The models on disk.
    #[serde(default)]
    pub models: Vec<ListedModel>,
}

/// A model on disk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ListedModel {
    /// The name with its tag: `smollm2:135m`.
    pub name: String,
    /// The time of the last change, as RFC 3339.
    #[serde(default)]
    pub modified_at: String,
    /// The size on disk in bytes.
    #[serde(default)]
    pub size: u64,
    /// The digest of the model's manifest.
    #[serde(default)]
    pub digest: String,
    /// The family, size and quantization.
    #[serde(default)]
    pub details: Details,
}

/// The family, size and quantization of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Details {
    /// The family: `llama`, `gemma3`, …
    #[serde(default)]
    pub family: String,
    /// The number of parameters: `134.52M`.
    #[serde(default)]
    pub parameter_size: String,
    /// The quantization: `Q4_1`.
    #[serde(default)]
    pub quantization_level: String,
}

/// The request of `POST /api/show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShowRequest<'a> {
    /// The name of the model.
    pub model: &'a str,
}

/// The request of `DELETE /api/delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeleteRequest<'a> {
    /// The name of the model.
    pub model: &'a str,
}

/// The request of `POST /api/generate` that unloads a model after its running answers: it has no
/// prompt, and its `keep_alive` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnloadRequest<'a> {
    /// The name of the model.
    pub model: &'a str,
    /// Always 0: unload at once.
    pub keep_alive: u32,
}

impl<'a> UnloadRequest<'a> {
    /// Creates the request that unloads `model`.
    pub fn new(model: &'a str) -> Self {
        Self {
            model,
            keep_alive: 0,
        }
    }
}

/// The answer of `POST /api/show`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Show {
    /// The parameters of the Modelfile as text: one `name   value` per line.
    #[serde(default)]
    pub parameters: String,
    /// The family, size and quantization.
    #[serde(default)]
    pub details: Details,
    /// The metadata of the model file, for example `<architecture>.context_length`.
    #[serde(default)]
    pub model_info: Extra,
    /// Some of `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`, `audio`.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Show {
    /// The context size that the model was trained with, in tokens.
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

    /// The maximum number of generated tokens that the Modelfile sets. A negative value means no
    /// limit and gives `None`.
    pub fn num_predict(&self) -> Option<i64> {
        self.parameter("num_predict")
    }

    fn parameter<T: FromStr>(&self, name: &str) -> Option<T> {
        self.parameters
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// The answer of `GET /api/ps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RunningModels {
    /// The loaded models.
    #[serde(default)]
    pub models: Vec<RunningModel>,
}

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunningModel {
    /// The name with its tag.
    pub name: String,
    /// The context size that the model is loaded with, in tokens. Older versions of Ollama do not
    /// send it.
    #[serde(default)]
    pub context_length: Option<u64>,
}

/// The answer of `GET /api/version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The version: `0.33.0`.
    pub version: String,
}
