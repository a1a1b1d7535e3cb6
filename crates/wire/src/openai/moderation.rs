//! `POST /v1/moderations`: tells which harmful categories an input belongs to.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::object::object;

object! {
    /// `CreateModerationRequest`: the request of `POST /v1/moderations`.
    pub struct ModerationRequest {
        /// A text, an array of texts, or an array of parts (texts and images).
        free input: Value = "input",
        /// The name or an alias of the model.
        optional model: String = "model",
    }
}

/// `CreateModerationResponse`: the answer of `POST /v1/moderations`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moderation {
    /// The id, `modr-…`.
    pub id: String,
    /// The model name that the client sent, or that of the configured model.
    pub model: String,
    /// One result for each text, or one for all parts together.
    pub results: Vec<ModerationResult>,
}

/// The categories of one input.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModerationResult {
    /// Whether the input is harmful.
    pub flagged: bool,
    /// Whether the input belongs to each category.
    pub categories: BTreeMap<&'static str, bool>,
    /// The probability of each category, 0 to 1.
    pub category_scores: BTreeMap<&'static str, f64>,
    /// The kinds of parts (`text`, `image`) that each category was checked for.
    pub category_applied_input_types: BTreeMap<&'static str, Vec<&'static str>>,
}
