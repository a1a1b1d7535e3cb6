//! Objects whose schema names their properties, and says nothing of others, get no others. Any answer to the narrower schema is one to the
//! wider; a small model that may write properties of its own makes some up, and rarely comes back.

use serde_json::{Map, Value};

/// What sets several schemas on one value: one of them must not close what another opens.
const TOGETHER: [&str; 9] = [
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
];

/// What gives an object its properties, by itself or by way of another schema.
const GIVING: [&str; 6] =
    ["properties", "required", "patternProperties", "minProperties", "additionalProperties", "propertyNames"];

/// Closes the objects of a schema, where it is plain that nothing valid is asked for beyond what they name.
pub(super) fn close(schema: &mut Value) {
    if !sets_several_on_one(schema) {
        close_each(schema);
    }
}

fn sets_several_on_one(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let has = |keywords: &[&str]| keywords.iter().any(|keyword| fields.contains_key(*keyword));
            let chooses = ["$ref", "anyOf", "oneOf"].iter().filter(|keyword| fields.contains_key(**keyword)).count();
            has(&TOGETHER) || chooses > 1 || chooses == 1 && has(&GIVING) || fields.values().any(sets_several_on_one)
        }
        Value::Array(items) => items.iter().any(sets_several_on_one),
        _ => false,
    }
}

fn close_each(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if is_open(fields) {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (keyword, value) in fields {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.values_mut().for_each(close_each);
            }
            ("anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(items)) => items.iter_mut().for_each(close_each),
            ("items" | "additionalItems" | "additionalProperties", schema) => close_each(schema),
            _ => {}
        }
    }
}

/// Whether a schema names properties, all that are required among them, and says nothing of others.
fn is_open(fields: &Map<String, Value>) -> bool {
    let Some(Value::Object(named)) = fields.get("properties") else { return false };
    let is_named = |name: &Value| name.as_str().is_some_and(|name| named.contains_key(name));
    let required = fields.get("required").and_then(Value::as_array);
    let says_more =
        ["additionalProperties", "patternProperties", "minProperties"].iter().any(|word| fields.contains_key(*word));
    !named.is_empty() && !says_more && required.is_none_or(|names| names.iter().all(is_named))
}
