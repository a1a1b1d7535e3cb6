//! Rewrites schemas that llama-server refuses. It answers 400 to the complete request for one
//! boolean schema, or one reference that it cannot follow, in the parameters of any tool.
//!
//! Annotations stay, because the model sees these schemas. [`fitted`](super::fitted) returns the
//! schema that constrains an answer.

use serde_json::{Value, json};

use super::llama_cpp::is_followed;
use crate::references::inlined;

/// Returns the rewritten schema, or `None` if nothing changes.
pub(crate) fn readable(schema: &Value) -> Option<Value> {
    let mut written = if refers_elsewhere(schema, schema) {
        inlined(schema).schema
    } else {
        schema.clone()
    };
    let root = written.clone();
    mend(&mut written, &root);
    (written != *schema).then_some(written)
}

/// Returns whether a reference leads to a place that the server does not follow.
fn refers_elsewhere(schema: &Value, root: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            reference.is_some_and(|to| to.starts_with('#') && !is_followed(to, root))
                || fields.values().any(|inner| refers_elsewhere(inner, root))
        }
        Value::Array(items) => items.iter().any(|inner| refers_elsewhere(inner, root)),
        _ => false,
    }
}

fn mend(schema: &mut Value, root: &Value) {
    match schema {
        Value::Bool(true) => *schema = json!({}),
        Value::Bool(false) => *schema = json!({"not": {}}),
        Value::Object(fields) => {
            let leads_nowhere = fields
                .get("$ref")
                .is_some_and(|to| !to.as_str().is_some_and(|to| is_followed(to, root)));
            if leads_nowhere {
                fields.shift_remove("$ref");
            }
            for (keyword, value) in fields {
                schemas_in(keyword, value, |inner| mend(inner, root));
            }
        }
        _ => {}
    }
}

/// Calls `each` with the schemas that a keyword contains.
fn schemas_in(keyword: &str, value: &mut Value, mut each: impl FnMut(&mut Value)) {
    match (keyword, value) {
        (
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
            Value::Object(named),
        ) => named.values_mut().for_each(each),
        ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(all)) => {
            all.iter_mut().for_each(each);
        }
        ("items" | "contains" | "not" | "if" | "then" | "else" | "propertyNames", schema) => {
            each(schema);
        }
        // The server expects a boolean here.
        ("additionalProperties" | "additionalItems", schema @ Value::Object(_)) => each(schema),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_to_read_is_written_otherwise_and_annotations_stay() {
        let text = json!({"type": "string", "description": "A text."});
        for (schema, expected) in [
            (
                json!({"type": "object", "properties": {"a": text, "b": true, "c": false}}),
                json!({"type": "object", "properties": {"a": text, "b": {}, "c": {"not": {}}}}),
            ),
            (
                json!({"properties": {"a": {"type": "array", "items": true}, "b": {"anyOf": [true, text]}}}),
                json!({"properties": {"a": {"type": "array", "items": {}}, "b": {"anyOf": [{}, text]}}}),
            ),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/X"}}, "$defs": {"X": true}}),
                json!({"properties": {"a": {"$ref": "#/$defs/X"}}, "$defs": {"X": {}}}),
            ),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/a~1b", "title": "T"}}, "$defs": {"a/b": text}}),
                json!({"properties": {"a": {"type": "string", "description": "A text.", "title": "T"}}}),
            ),
            (
                json!({"properties": {"a": {"$ref": "https://example.com/x.json", "description": "A."}}}),
                json!({"properties": {"a": {"description": "A."}}}),
            ),
            (
                json!({"properties": {"additionalProperties": true}, "additionalProperties": {"items": true}}),
                json!({"properties": {"additionalProperties": {}}, "additionalProperties": {"items": {}}}),
            ),
        ] {
            assert_eq!(readable(&schema), Some(expected), "{schema}");
        }
        let whole = json!({"type": "object", "properties": {"child": {"$ref": "#"}, "b": true}});
        let written = readable(&whole).unwrap();
        assert_eq!(readable(&written), None, "{written}");
        assert_eq!(written["properties"]["child"]["properties"]["b"], json!({}));
    }

    #[test]
    fn what_the_server_reads_is_left_as_it_is() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/X"}}, "$defs": {"X": {}}}),
            json!({"type": "object", "additionalProperties": false, "default": true}),
            json!({"enum": [true, false], "const": true, "examples": [true]}),
        ] {
            assert_eq!(readable(&schema), None, "{schema}");
        }
    }
}
