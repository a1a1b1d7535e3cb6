//! Which keywords of a JSON schema Ollama keeps of a property, and which of the others would have
//! told a model something.

use serde_json::Value;

/// Whether Ollama keeps this keyword of a property.
pub(super) fn is_kept(keyword: &str) -> bool {
    matches!(
        keyword,
        "type" | "anyOf" | "items" | "description" | "enum" | "properties" | "required"
    )
}

/// Keywords that limit what a value may be, and that Ollama does not keep. What JSON Schema does
/// not know is an annotation.
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

/// The largest whole number that a double holds exactly. Zod writes it as the limit of each
/// integer.
const SAFE: f64 = 9_007_199_254_740_991.0;

/// Whether a keyword that is not kept would have said something of what is valid.
pub(super) fn says_something(keyword: &str, value: &Value) -> bool {
    match keyword {
        "minItems" | "minLength" | "minProperties" => value.as_u64() != Some(0),
        "uniqueItems" => value.as_bool() != Some(false),
        "minimum" => value.as_f64() != Some(-SAFE),
        "maximum" => value.as_f64() != Some(SAFE),
        // Closed or open: a model writes the properties that it is shown.
        "additionalProperties"
        | "unevaluatedProperties"
        | "additionalItems"
        | "unevaluatedItems" => value.as_object().is_some_and(|schema| !schema.is_empty()),
        // Names are strings anyway.
        "propertyNames" => value.as_object().is_some_and(|schema| {
            schema
                .iter()
                .any(|(name, value)| name != "type" || value != "string")
        }),
        _ => LIMITS.contains(&keyword),
    }
}
