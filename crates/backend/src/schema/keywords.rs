//! The keywords that constrain values, their valid forms, and the types that they apply to.
//!
//! All other keywords, and unknown formats, are annotations according to the specification.

use serde_json::Value;

/// The valid values of `type`.
pub(super) const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// The keywords that apply to objects, arrays, strings and numbers.
const OF_OBJECTS: [&str; 11] = [
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
];
const OF_ARRAYS: [&str; 8] = [
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "unevaluatedItems",
];
const OF_STRINGS: [&str; 4] = ["pattern", "format", "minLength", "maxLength"];
const OF_NUMBERS: [&str; 5] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

/// The keywords that apply to any value.
const OF_ALL: [&str; 11] = [
    "type",
    "enum",
    "const",
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "if",
];

/// The string formats of the specification. Any other is an annotation, for numbers (`int32`) or
/// for readers (`password`).
const FORMATS: [&str; 19] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uuid",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

/// Returns the type that a keyword applies to. `None` if it applies to any.
pub(super) fn type_of(keyword: &str) -> Option<&'static str> {
    let all: [(&[&str], &str); 4] = [
        (&OF_OBJECTS, "object"),
        (&OF_ARRAYS, "array"),
        (&OF_STRINGS, "string"),
        (&OF_NUMBERS, "number"),
    ];
    all.into_iter()
        .find(|(keywords, _)| keywords.contains(&keyword))
        .map(|(_, one)| one)
}

/// Returns whether a keyword constrains values. A value without effect does not.
pub(super) fn asserts(keyword: &str, value: &Value) -> bool {
    let is_known = OF_ALL.contains(&keyword) || type_of(keyword).is_some();
    is_known && !asks_for_nothing(keyword, value)
}

fn asks_for_nothing(keyword: &str, value: &Value) -> bool {
    match keyword {
        "const" => false,
        // `null` for a missing list, as Go writes it, has no effect.
        _ if value.is_null() => true,
        "format" => value
            .as_str()
            .is_some_and(|format| !FORMATS.contains(&format)),
        "minLength" | "minItems" | "minProperties" => value.as_f64() == Some(0.0),
        "uniqueItems" | "exclusiveMinimum" | "exclusiveMaximum" | "not" => value == false,
        "unevaluatedProperties" | "unevaluatedItems" => says_nothing(value),
        "propertyNames" => is_any_string(value),
        "dependentRequired" | "dependentSchemas" | "dependencies" => {
            value.as_object().is_some_and(serde_json::Map::is_empty)
        }
        _ => false,
    }
}

/// Returns whether a schema allows every string. Property names are strings.
fn is_any_string(schema: &Value) -> bool {
    says_nothing(schema)
        || schema.as_object().is_some_and(|fields| {
            let is_said = |(keyword, value): (&String, &Value)| {
                asserts(keyword, value) && !(keyword == "type" && value == "string")
            };
            !fields.iter().any(is_said)
        })
}

/// Returns whether a schema allows every value.
pub(super) fn says_nothing(schema: &Value) -> bool {
    match schema {
        Value::Bool(any) => *any,
        Value::Object(fields) => !fields
            .iter()
            .any(|(keyword, value)| asserts(keyword, value)),
        _ => false,
    }
}

/// Returns whether a keyword has a valid value. Engines ignore invalid ones.
pub(super) fn is_well_formed(keyword: &str, value: &Value) -> bool {
    let schemas = |items: &Value| {
        items
            .as_array()
            .is_some_and(|items| items.iter().all(is_schema))
    };
    match keyword {
        "type" => match value {
            Value::Array(types) => !types.is_empty() && types.iter().all(is_type),
            one => is_type(one),
        },
        "properties" | "patternProperties" | "dependentSchemas" => value
            .as_object()
            .is_some_and(|named| named.values().all(is_schema)),
        "required" => value
            .as_array()
            .is_some_and(|names| names.iter().all(Value::is_string)),
        "additionalProperties"
        | "additionalItems"
        | "propertyNames"
        | "unevaluatedProperties"
        | "unevaluatedItems"
        | "contains"
        | "not"
        | "if" => is_schema(value),
        "items" => is_schema(value) || schemas(value),
        "prefixItems" => schemas(value),
        "anyOf" | "oneOf" | "allOf" => schemas(value) && value != &Value::Array(Vec::new()),
        "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
            value
                .as_f64()
                .is_some_and(|count| count >= 0.0 && count.fract() == 0.0)
        }
        "minimum" | "maximum" | "multipleOf" => value.is_number(),
        // In draft 4 and `OpenAPI` 3.0 this is a boolean beside the bound.
        "exclusiveMinimum" | "exclusiveMaximum" => value.is_number() || value.is_boolean(),
        "pattern" | "format" | "$ref" => value.is_string(),
        _ => true,
    }
}

/// Returns whether a value is a schema: an object, `true` or `false`.
pub(super) fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| TYPES.contains(&name))
}

/// Returns the types of a value.
pub(super) fn types_of(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Null => &["null"],
        Value::Bool(_) => &["boolean"],
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
            &["integer", "number"]
        }
        Value::Number(_) => &["number"],
        Value::String(_) => &["string"],
        Value::Array(_) => &["array"],
        Value::Object(_) => &["object"],
    }
}
