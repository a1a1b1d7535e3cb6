//! Objects whose schema names their properties, and says nothing of others, get no others. Any
//! answer to the narrower schema is one to the wider; a small model that may write properties of
//! its own makes some up, and rarely comes back.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// What gives an object its properties, by itself or by way of another schema.
const GIVING: [&str; 5] = [
    "properties",
    "required",
    "patternProperties",
    "minProperties",
    "additionalProperties",
];

/// Closes the objects of a schema, one by one, where it is plain that nothing valid is asked for
/// beyond what they name.
pub(super) fn close(schema: &mut Value) {
    let mut open = HashSet::new();
    find_open(schema, false, &mut open);
    // What an open definition refers to in its own place is open too.
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

/// Finds the references that stand for a value of which other schemas speak, too: what they lead to
/// must stay open.
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

/// Whether several schemas speak of one value's properties.
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

/// How a schema within another stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// It speaks of a value of its own.
    Own,
    /// Of the same value, or another does.
    OneOf,
    /// Of the same value, as all others do.
    AllOf,
}

/// Goes over the schemas that a keyword holds, with the way to each.
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

/// Whether a schema names properties, all that are required among them, and says nothing of others.
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
