//! llguidance, which constrains the answers of the embedded engine: the keywords that it enforces.

use regex_syntax::hir::{Look, LookSet};
use serde_json::{Map, Value};

use super::disjoint::are_apart;

/// The keywords that llguidance supports (its `src/json/schema.rs`).
const KEYWORDS: [&str; 29] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "pattern",
    "format",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

/// The string formats that llguidance supports.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// The largest exact integer. Larger ones are not distinguished by an engine that reads them as
/// floats.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

/// Returns the first keyword that llguidance ignores or refuses.
pub(super) fn passed_over<'a>(fields: &'a Map<String, Value>, root: &Value) -> Option<&'a String> {
    let holds = |keyword: &str, value: &Value| match (keyword, value) {
        ("oneOf", Value::Array(all)) => are_apart(all, root),
        _ => enforces(fields, keyword, value),
    };
    fields
        .iter()
        .find(|(keyword, value)| !holds(keyword, value))
        .map(|(keyword, _)| keyword)
}

/// Returns whether a keyword is enforced. llguidance itself reports rare keywords that it cannot
/// convert. This function finds those that it would ignore or that it often refuses: duplicate
/// names, which it counts twice; numbers that a float cannot hold; characters that need an escape.
fn enforces(schema: &Map<String, Value>, keyword: &str, value: &Value) -> bool {
    let text = value.as_str();
    match keyword {
        // `int32`, `double` and similar formats are annotations.
        "format" => !may_be_text(schema) || text.is_some_and(|format| FORMATS.contains(&format)),
        "$ref" => text.is_some_and(|reference| {
            reference == "#" || reference.starts_with("#/") && !reference.contains(['~', '%'])
        }),
        "minProperties" => {
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            value
                .as_u64()
                .is_some_and(|least| least <= required as u64 + 1)
        }
        "pattern" => text.is_some_and(is_readable),
        "patternProperties" => value
            .as_object()
            .is_some_and(|named| named.keys().all(|pattern| is_readable(pattern))),
        "prefixItems" => {
            !schema.contains_key("additionalItems")
                && !schema.get("items").is_some_and(Value::is_array)
        }
        "const" | "enum" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            can_be_written(value)
        }
        _ => KEYWORDS.contains(&keyword),
    }
}

/// Returns whether llguidance supports a pattern. It does not support look-around (which Zod writes
/// for each e-mail address), back-references and word boundaries.
fn is_readable(pattern: &str) -> bool {
    let anchors = LookSet::empty().insert(Look::Start).insert(Look::End);
    regex_syntax::parse(pattern)
        .is_ok_and(|read| read.properties().look_set().subtract(anchors).is_empty())
}

fn may_be_text(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|one| one == "string"),
        Some(one) => one == "string",
    }
}

/// Returns whether a value can be written exactly.
fn can_be_written(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|number| number.abs() <= LARGEST_EXACT),
        Value::String(text) => text
            .chars()
            .all(|c| !c.is_ascii_control() || matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{c}')),
        Value::Array(items) => items.iter().all(can_be_written),
        Value::Object(fields) => fields.values().all(can_be_written),
    }
}
