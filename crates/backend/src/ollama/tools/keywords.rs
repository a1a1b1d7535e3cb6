//! Classifies keywords of a JSON schema: those that Ollama keeps, and those whose loss matters.

use serde_json::Value;

/// Returns whether Ollama keeps this keyword of a property.
pub(super) fn is_kept(keyword: &str) -> bool {
    matches!(
        keyword,
        "type" | "anyOf" | "items" | "description" | "enum" | "properties" | "required"
    )
}

/// Keywords that constrain a value and that Ollama drops. Keywords unknown to JSON Schema are
/// annotations.
const LIMITS: [&str; 33] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
];

/// The largest integer that a double holds exactly. Zod writes it as the limit of each integer.
const SAFE: f64 = 9_007_199_254_740_991.0;

/// Returns whether a dropped keyword would have constrained the valid values.
pub(super) fn says_something(keyword: &str, value: &Value) -> bool {
    match keyword {
        "minItems" | "minLength" | "minProperties" => value.as_u64() != Some(0),
        "uniqueItems" => value.as_bool() != Some(false),
        "minimum" => value.as_f64() != Some(-SAFE),
        "maximum" => value.as_f64() != Some(SAFE),
        // The loss of this keyword makes no difference, because a model writes the properties that
        // it sees.
        "additionalProperties"
        | "unevaluatedProperties"
        | "additionalItems"
        | "unevaluatedItems" => value.as_object().is_some_and(|schema| !schema.is_empty()),
        // Property names are strings anyway.
        "propertyNames" => value.as_object().is_some_and(|schema| {
            schema
                .iter()
                .any(|(name, value)| name != "type" || value != "string")
        }),
        _ => LIMITS.contains(&keyword),
    }
}
