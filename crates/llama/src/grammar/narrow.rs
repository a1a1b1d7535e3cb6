//! Closes objects (no additional properties) if their schema names properties and does not mention
//! others. An answer that is valid for the narrower schema is also valid for the original one. A
//! small model that may add properties invents some, and rarely stops.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// The keywords that give an object its properties, directly or through another schema.
const GIVING: [&str; 5] = [
    "properties",
    "required",
    "patternProperties",
    "minProperties",
    "additionalProperties",
];

/// Closes each object of a schema if it is certain that valid answers need no other properties.
pub(super) fn close(schema: &mut Value) {
    let mut open = HashSet::new();
    find_open(schema, false, &mut open);
    // If a definition is open, the definitions that it refers to in its own place are open too.
    let mut waiting: Vec<String> = open.iter().cloned().collect();
    while let Some(reference) = waiting.pop() {
        let definition = reference
            .strip_prefix('#')
            .and_then(|pointer| schema.pointer(pointer));
        let mut within = HashSet::new();
        definition.inspect(|definition| find_open(definition, true, &mut within));
        waiting.extend(
            within
                .into_iter()
                .filter(|reference| open.insert(reference.clone())),
        );
    }
    close_each(schema, "#", !open.contains("#"), &open);
}

/// Finds references to values that other schemas describe too. Their targets must stay open.
fn find_open(schema: &Value, is_open: bool, open: &mut HashSet<String>) {
    let Value::Object(fields) = schema else {
        return;
    };
    let is_open = is_open || speaks_twice(fields);
    for (keyword, value) in fields {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(reference)) if is_open => drop(open.insert(reference.clone())),
            _ => each_within(keyword, value, |_, one, relation| {
                find_open(
                    one,
                    relation == Relation::AllOf || relation == Relation::OneOf && is_open,
                    open,
                );
            }),
        }
    }
}

/// Whether several schemas describe the properties of one value.
fn speaks_twice(fields: &Map<String, Value>) -> bool {
    let has = |keyword: &&str| fields.contains_key(*keyword);
    let leading = ["$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .filter(|keyword| has(keyword))
        .count();
    leading > 1 || leading == 1 && GIVING.iter().any(has)
}

fn close_each(schema: &mut Value, place: &str, may_close: bool, open: &HashSet<String>) {
    let Value::Object(fields) = schema else {
        return;
    };
    let may_close = may_close && !speaks_twice(fields);
    if may_close && is_open(fields) {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (keyword, value) in fields {
        let mut steps = Vec::new();
        each_within(keyword, value, |step, _, relation| {
            steps.push((step, relation));
        });
        for (step, relation) in steps {
            let inner = if step.is_empty() {
                Some(&mut *value)
            } else {
                value.pointer_mut(&step)
            };
            let place = format!("{place}/{keyword}{step}");
            let may_close = match relation {
                Relation::Own => !open.contains(&place),
                Relation::OneOf => may_close,
                Relation::AllOf => false,
            };
            if let Some(inner) = inner {
                close_each(inner, &place, may_close, open);
            }
        }
    }
}

/// How a subschema relates to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The subschema describes a separate value.
    Own,
    /// The subschema describes the same value, as one of several alternatives.
    OneOf,
    /// The subschema describes the same value, together with the others.
    AllOf,
}

/// Visits the subschemas that a keyword contains, each with its path.
fn each_within(keyword: &str, value: &Value, mut visit: impl FnMut(String, &Value, Relation)) {
    match (keyword, value) {
        ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
            for (name, schema) in named {
                visit(
                    format!("/{}", name.replace('~', "~0").replace('/', "~1")),
                    schema,
                    Relation::Own,
                );
            }
        }
        ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => {
            let relation = match keyword {
                "allOf" => Relation::AllOf,
                "anyOf" | "oneOf" => Relation::OneOf,
                _ => Relation::Own,
            };
            items
                .iter()
                .enumerate()
                .for_each(|(index, schema)| visit(format!("/{index}"), schema, relation));
        }
        ("items" | "additionalItems" | "additionalProperties", schema) => {
            visit(String::new(), schema, Relation::Own);
        }
        _ => {}
    }
}

/// Whether a schema names properties, including all required ones, and does not mention others.
fn is_open(fields: &Map<String, Value>) -> bool {
    let Some(Value::Object(named)) = fields.get("properties") else {
        return false;
    };
    let is_named = |name: &Value| name.as_str().is_some_and(|name| named.contains_key(name));
    let required = fields.get("required").and_then(Value::as_array);
    let says_more = ["additionalProperties", "patternProperties", "minProperties"]
        .iter()
        .any(|word| fields.contains_key(*word));
    !named.is_empty() && !says_more && required.is_none_or(|names| names.iter().all(is_named))
}
