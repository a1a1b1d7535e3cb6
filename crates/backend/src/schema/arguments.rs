//! The schema of a function's arguments.

use loggia_wire::openai::FunctionDefinition;
use serde_json::{Map, Value, json};

/// Returns the schema of a function's arguments. It is always an object. A function without
/// parameters or `properties` gets a schema that allows no properties.
pub fn arguments(function: &FunctionDefinition) -> Value {
    let mut fields = match &function.parameters {
        Some(Value::Object(fields)) => fields.clone(),
        _ => Map::new(),
    };
    let says = |fields: &Map<String, Value>, keywords: &[&str]| {
        keywords.iter().any(|keyword| fields.contains_key(*keyword))
    };
    if !says(&fields, &["type", "$ref", "anyOf", "oneOf", "allOf"]) {
        fields.insert("type".to_owned(), json!("object"));
    }
    let named = fields.get("properties").and_then(Value::as_object);
    let is_bare = function
        .parameters
        .as_ref()
        .is_none_or(|given| given.is_null() || given == &json!({}));
    let more = [
        "$ref",
        "anyOf",
        "oneOf",
        "allOf",
        "additionalProperties",
        "patternProperties",
        "minProperties",
    ];
    let requires = fields
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| !names.is_empty());
    if is_bare || named.is_some_and(Map::is_empty) && !requires && !says(&fields, &more) {
        fields.entry("properties").or_insert_with(|| json!({}));
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(fields)
}
