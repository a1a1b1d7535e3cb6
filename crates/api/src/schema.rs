//! Which keywords of a JSON schema the engine behind cannot enforce. It would pass over them without a word, so they are refused,
//! by keyword and place.

use loggia_backend::SchemaEngine;
use loggia_wire::openai::{ChatCompletionRequest, ResponseFormat};
use serde_json::{Map, Value};

use crate::ApiError;

/// A keyword that would have no effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unenforced {
    /// The field that holds the schema.
    param: String,
    /// Where in the schema, as a JSON pointer.
    place: String,
    keyword: String,
}

impl Unenforced {
    pub(crate) fn refusal(&self) -> ApiError {
        let place = if self.place.is_empty() { "its root" } else { &self.place };
        let message = format!(
            "Invalid schema for '{}': the engine of this model cannot enforce '{}' at {place}. Leave the keyword out, and check the answer yourself.",
            self.param, self.keyword
        );
        ApiError::invalid(&self.param, "invalid_json_schema", message)
    }

    pub(crate) fn name(&self) -> String {
        format!("{}#{}/{}", self.param, self.place, self.keyword)
    }
}

/// Says nothing of what is valid.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "discriminator",
    "strict",
];

/// What llama.cpp's converter makes rules of (`common/json-schema-to-grammar.cpp`).
const LLAMA_CPP: [&str; 24] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
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
];

/// What llguidance knows beyond that (its `docs/json_schema.md`).
const LLGUIDANCE_TOO: [&str; 4] = ["multipleOf", "minProperties", "maxProperties", "patternProperties"];

/// The formats of strings that llama.cpp's converter knows.
const LLAMA_CPP_FORMATS: [&str; 4] = ["date", "time", "date-time", "uuid"];

/// The first keyword that would have no effect in a schema that the answer is to be held to.
pub(crate) fn unenforced(request: &ChatCompletionRequest, engine: SchemaEngine) -> Option<Unenforced> {
    if engine == SchemaEngine::Own {
        return None;
    }
    if let Some(ResponseFormat::JsonSchema(format)) = &request.response_format
        && let Some(schema) = &format.schema
    {
        return in_schema(schema, engine, "response_format.json_schema.schema");
    }
    if !request.must_call() {
        return None;
    }
    let functions = request.callable_functions().into_iter();
    let mut schemas = functions.filter_map(|function| Some((function.name.as_str(), function.parameters.as_ref()?)));
    schemas.find_map(|(name, schema)| in_schema(schema, engine, &format!("tools[{name}].function.parameters")))
}

fn in_schema(schema: &Value, engine: SchemaEngine, param: &str) -> Option<Unenforced> {
    let (place, keyword) = walk(schema, engine, String::new())?;
    Some(Unenforced { param: param.to_owned(), place, keyword })
}

fn walk(schema: &Value, engine: SchemaEngine, place: String) -> Option<(String, String)> {
    // `true` and `false` are schemas too.
    let fields = schema.as_object()?;
    for (keyword, value) in fields {
        if ANNOTATIONS.contains(&keyword.as_str()) {
            continue;
        }
        if !enforces(engine, fields, keyword, value) {
            return Some((place, keyword.clone()));
        }
        let inside = format!("{place}/{keyword}");
        let found = match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.iter().find_map(|(name, schema)| walk(schema, engine, format!("{inside}/{name}")))
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => {
                items.iter().enumerate().find_map(|(index, schema)| walk(schema, engine, format!("{inside}/{index}")))
            }
            ("items" | "additionalProperties", schema) => walk(schema, engine, inside),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn enforces(engine: SchemaEngine, schema: &Map<String, Value>, keyword: &str, value: &Value) -> bool {
    match engine {
        SchemaEngine::Own => true,
        SchemaEngine::Llguidance => LLAMA_CPP.contains(&keyword) || LLGUIDANCE_TOO.contains(&keyword),
        SchemaEngine::LlamaCpp => LLAMA_CPP.contains(&keyword) && llama_cpp_enforces(schema, keyword, value),
    }
}

/// llama.cpp's converter knows some keywords only in part: bounds of integers, patterns of whole strings, a few formats, references
/// within the schema.
fn llama_cpp_enforces(schema: &Map<String, Value>, keyword: &str, value: &Value) -> bool {
    let text = value.as_str();
    match keyword {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            schema.get("type").and_then(Value::as_str) == Some("integer")
        }
        "pattern" => text.is_some_and(|pattern| pattern.starts_with('^') && pattern.ends_with('$')),
        "format" => text.is_some_and(|format| LLAMA_CPP_FORMATS.contains(&format)),
        "$ref" => text.is_some_and(|reference| reference.starts_with("#/")),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Value, engine: SchemaEngine) -> Option<(String, String)> {
        walk(schema, engine, String::new())
    }

    #[test]
    fn what_llama_cpp_passes_over_is_found_with_its_place() {
        let at = |place: &str, keyword: &str| Some((place.to_owned(), keyword.to_owned()));
        for (schema, expected) in [
            (json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "title": "T"}), None),
            (
                json!({"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": true}),
                at("", "uniqueItems"),
            ),
            (json!({"properties": {"a": {"type": "number", "minimum": 0}}}), at("/properties/a", "minimum")),
            (json!({"properties": {"a": {"type": "string", "pattern": "x"}}}), at("/properties/a", "pattern")),
            (json!({"properties": {"a": {"type": "string", "pattern": "^x$"}}}), None),
            (json!({"anyOf": [{"type": "string"}, {"not": {}}]}), at("/anyOf/1", "not")),
            (json!({"$defs": {"a": {"multipleOf": 2}}, "$ref": "#/$defs/a"}), at("/$defs/a", "multipleOf")),
            (json!({"properties": {"not": {"type": "string"}}}), None),
            (json!({"format": "email"}), at("", "format")),
        ] {
            assert_eq!(found(&schema, SchemaEngine::LlamaCpp), expected, "{schema}");
        }
        assert_eq!(found(&json!({"multipleOf": 2}), SchemaEngine::Llguidance), None);
        assert_eq!(found(&json!({"uniqueItems": true}), SchemaEngine::Llguidance), at("", "uniqueItems"));
    }
}
