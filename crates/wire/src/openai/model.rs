//! `GET /v1/models`, `GET /v1/models/{id}` and `DELETE /v1/models/{id}`.

use serde::{Deserialize, Serialize};

use crate::object::object;

object! {
    /// A model. `extra` contains properties that OpenAI's API does not have (context length,
    /// abilities).
    pub struct Model {
        /// The name to send as `model` in a request.
        required id: String = "id",
        /// Always `model`.
        required object: String = "object",
        /// The creation time, as Unix time in seconds.
        required created: u64 = "created",
        /// The owner: the name of the backend.
        required owned_by: String = "owned_by",
    }
}

impl Model {
    /// Creates a model with OpenAI's four fields.
    pub fn new(id: impl Into<String>, created: u64, owned_by: impl Into<String>) -> Self {
        let extra = crate::Extra::new();
        Self {
            id: id.into(),
            object: "model".to_owned(),
            created,
            owned_by: owned_by.into(),
            extra,
        }
    }
}

/// `DeleteModelResponse`: the answer of `DELETE /v1/models/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedModel {
    /// The id that the client sent.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Always `true`.
    pub deleted: bool,
}

impl DeletedModel {
    /// Creates the answer for the deleted model `id`.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            object: "model".to_owned(),
            deleted: true,
        }
    }
}

/// `ListModelsResponse`: the answer of `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl ModelList {
    /// Creates a list of models.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}
