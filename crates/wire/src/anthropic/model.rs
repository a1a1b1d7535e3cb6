//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name to send as `model` in a request.
    pub id: String,
    /// Always `model`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name to show.
    pub display_name: String,
    /// The creation time, in the format of RFC 3339.
    pub created_at: String,
    /// Always `active`.
    pub lifecycle: String,
    /// The context length, if known.
    pub max_input_tokens: Option<u64>,
    /// The maximum length of an answer, if known.
    pub max_tokens: Option<u64>,
    /// The capabilities of the model, if known.
    pub capabilities: Option<Value>,
}

/// A page of a list of models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelPage {
    /// The models.
    pub data: Vec<ModelInfo>,
    /// Whether another page follows.
    pub has_more: bool,
    /// The id of the first model.
    pub first_id: Option<String>,
    /// The id of the last model.
    pub last_id: Option<String>,
}
