//! How a loaded model is identified to clients: its name, its fingerprint, and its card in the list
//! of models.

use std::time::SystemTime;

use loggia_backend::{ServedBy, fingerprint};
use loggia_wire::openai::Model as ModelCard;
use serde_json::json;

use crate::facts::ModelFacts;
use crate::options::LlamaOptions;

/// The version of llama.cpp in a fingerprint. It is the version of the bindings, which include
/// llama.cpp's source.
pub(crate) const LLAMA_CPP: &str = "llama-cpp-2 0.1.160";

/// The description of the model that is part of every answer. `files` identifies the files of the
/// model: its weights, and the projector if there is one.
pub(crate) fn served_by(options: &LlamaOptions, files: &[&str]) -> ServedBy {
    let parts = [&["embedded"], files, &[LLAMA_CPP]].concat();
    ServedBy {
        backend: "embedded".into(),
        model: options.name.as_str().into(),
        node: None,
        fingerprint: fingerprint(&parts),
        changed: Vec::new(),
        ignored: Vec::new(),
    }
}

/// The part of a model card that is the same for all kinds of models.
pub(crate) fn bare_card(options: &LlamaOptions, facts: &ModelFacts) -> ModelCard {
    let modified = std::fs::metadata(&options.path)
        .and_then(|metadata| metadata.modified())
        .ok();
    let created = modified
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_secs());
    let mut card = ModelCard::new(options.name.as_str(), created, "embedded");
    card.extra
        .insert("architecture".to_owned(), json!(facts.architecture));
    card.extra
        .insert("parameter_count".to_owned(), json!(facts.parameters));
    card.extra
        .insert("size".to_owned(), json!(facts.file_bytes));
    card
}
