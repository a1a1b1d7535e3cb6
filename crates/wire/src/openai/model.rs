//! `GET /v1/models`, `GET /v1/models/{id}` and `DELETE /v1/models/{id}`.

use serde::{Deserialize, Serialize};

use crate::object::object;

object! {
    /// One model. What OpenAI's API has no field for (context length, abilities) is in `extra`.
    pub struct Model {
        /// What to put into `model`.
        required id: String = "id",
        /// `model`.
        required object: String = "object",
        /// Unix time in seconds.
        required created: u64 = "created",
        /// Whose it is: the backend's name for the owner.
        required owned_by: String = "owned_by",
    }
}

impl Model {
    /// A model with OpenAI's four fields.
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

/// `DeleteModelResponse`: the answer to `DELETE /v1/models/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedModel {
    /// The id that the client named.
    pub id: String,
    /// `model`.
    pub object: String,
    /// `true`.
    pub deleted: bool,
}

impl DeletedModel {
    /// The model of this id is deleted.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            object: "model".to_owned(),
            deleted: true,
        }
    }
}

/// `ListModelsResponse`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of these.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: "list".to_owned(),
            data,
        }
    }
}
