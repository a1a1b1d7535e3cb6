//! Parses an engine's `GET /models`. Further properties of a model are kept.

use loggia_wire::openai::Model;
use serde_json::{Value, json};

/// Returns the models of a list, or `None` if the JSON is not a list.
pub(super) fn read(json: &[u8], backend: &str) -> Option<Vec<Model>> {
    let mut list: Value = serde_json::from_slice(json).ok()?;
    let Value::Array(models) = list.get_mut("data")?.take() else {
        return None;
    };
    Some(
        models
            .into_iter()
            .filter_map(|model| self::model(model, backend))
            .collect(),
    )
}

fn model(mut model: Value, backend: &str) -> Option<Model> {
    let Value::Object(fields) = &mut model else {
        return None;
    };
    if !fields.get("created").is_some_and(Value::is_u64) {
        let seconds = fields.get("created").and_then(Value::as_f64).unwrap_or(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a date; larger values saturate"
        )]
        fields.insert("created".to_owned(), json!(seconds as u64));
    }
    if !fields.get("owned_by").is_some_and(Value::is_string) {
        fields.insert("owned_by".to_owned(), json!(backend));
    }
    fields.insert("object".to_owned(), json!("model"));
    if let Some(length) = context_length(&model)
        && let Value::Object(fields) = &mut model
    {
        fields.entry("context_length").or_insert(json!(length));
    }
    serde_json::from_value(model).ok()
}

/// Returns the context length as vLLM and llama-server report it. The value that the engine was
/// started with takes precedence over that of the training.
fn context_length(model: &Value) -> Option<u64> {
    [
        "/context_length",
        "/max_model_len",
        "/meta/n_ctx",
        "/meta/n_ctx_train",
    ]
    .iter()
    .find_map(|path| model.pointer(path)?.as_u64())
}
