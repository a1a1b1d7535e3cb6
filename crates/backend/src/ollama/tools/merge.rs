//! Merges schemas of objects: those of an `allOf`, all of which apply, and those of an `anyOf` at
//! the root, one of which applies.

use serde_json::{Map, Value};

use super::property;

/// Merges a schema into another that applies too. Returns whether everything could be merged. The
/// rest is dropped.
pub(super) fn merge(into: &mut Map<String, Value>, schema: Map<String, Value>) -> bool {
    let mut whole = true;
    for (keyword, value) in schema {
        let Some(there) = into.get_mut(&keyword) else {
            into.insert(keyword, value);
            continue;
        };
        whole &= match (keyword.as_str(), there, value) {
            // The outer value is more specific.
            ("description" | "title" | "default" | "examples", _, _) => true,
            ("properties", Value::Object(there), Value::Object(more)) => properties(there, more),
            ("required", Value::Array(there), Value::Array(more)) => {
                let new: Vec<Value> = more
                    .into_iter()
                    .filter(|name| !there.contains(name))
                    .collect();
                there.extend(new);
                true
            }
            ("enum", Value::Array(there), Value::Array(more)) => {
                there.retain(|value| more.contains(value));
                true
            }
            ("type", there, more) => in_common(there, &more),
            (_, there, more) => *there == more,
        };
    }
    whole
}

fn properties(into: &mut Map<String, Value>, more: Map<String, Value>) -> bool {
    let mut whole = true;
    for (name, schema) in more {
        whole &= match (into.get_mut(&name), schema) {
            (None, schema) => {
                into.insert(name, schema);
                true
            }
            (Some(Value::Object(there)), Value::Object(schema)) => merge(there, schema),
            (Some(there), schema) => *there == schema,
        };
    }
    whole
}

/// Keeps the types that both allow. Changes nothing if there are none.
fn in_common(there: &mut Value, more: &Value) -> bool {
    let list = |kinds: &Value| match kinds {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let (one, other) = (list(there), list(more));
    let allows = |kinds: &[Value], kind: &Value| {
        kinds.contains(kind) || (kind == "integer" && kinds.contains(&"number".into()))
    };
    let mut common: Vec<Value> = one
        .iter()
        .filter(|kind| allows(&other, kind))
        .cloned()
        .collect();
    common.extend(
        other
            .iter()
            .filter(|kind| allows(&one, kind) && !one.contains(kind))
            .cloned(),
    );
    match common.as_slice() {
        [] => return false,
        [kind] => *there = kind.clone(),
        _ => *there = Value::Array(common),
    }
    true
}

/// Merges alternatives of an object into one schema with the properties of all, which requires only
/// what each requires. Properties that differ get alternatives.
pub(super) fn merge_variants(
    into: &mut Map<String, Value>,
    variants: Vec<Value>,
    lost: &mut Vec<String>,
) {
    let mut required: Option<Vec<Value>> = None;
    let mut all: Map<String, Value> = Map::new();
    for variant in variants {
        let Value::Object(mut variant) = property(variant, "/anyOf", lost) else {
            continue;
        };
        let its = match variant.shift_remove("required") {
            Some(Value::Array(names)) => names,
            _ => Vec::new(),
        };
        required = Some(required.map_or(its.clone(), |all| {
            all.into_iter().filter(|name| its.contains(name)).collect()
        }));
        if let Some(Value::Object(properties)) = variant.shift_remove("properties") {
            properties
                .into_iter()
                .for_each(|(name, schema)| either(&mut all, name, schema));
        }
    }
    let mut merged = Map::new();
    merged.insert("properties".to_owned(), Value::Object(all));
    merged.insert(
        "required".to_owned(),
        Value::Array(required.unwrap_or_default()),
    );
    merge(into, merged);
}

fn either(all: &mut Map<String, Value>, name: String, schema: Value) {
    let Some(there) = all.get_mut(&name) else {
        all.insert(name, schema);
        return;
    };
    if *there == schema {
        return;
    }
    match there.get_mut("anyOf").and_then(Value::as_array_mut) {
        Some(variants) if !variants.contains(&schema) => variants.push(schema),
        Some(_) => {}
        None => *there = serde_json::json!({"anyOf": [there.take(), schema]}),
    }
}
