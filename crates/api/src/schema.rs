//! Which keywords of a JSON schema the engine behind cannot enforce, and which are not as JSON Schema has them. It would pass over both
//! without a word, so they are refused, by keyword and place.

use loggia_backend::{Abilities, Ability, SchemaEngine};
use loggia_wire::openai::{ChatCompletionRequest, FunctionDefinition, ResponseFormat};
use serde_json::{Map, Value};

use crate::ApiError;

/// The field that holds a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Answer,
    /// By its place in `tools`.
    Tool(usize),
    /// By its place in `functions`.
    Function(usize),
}

impl Holder {
    fn param(self) -> String {
        match self {
            Self::Answer => "response_format.json_schema.schema".to_owned(),
            Self::Tool(index) => format!("tools[{index}].function.parameters"),
            Self::Function(index) => format!("functions[{index}].parameters"),
        }
    }

    fn schema(self, request: &mut ChatCompletionRequest) -> Option<&mut Value> {
        match self {
            Self::Answer => match &mut request.response_format {
                Some(ResponseFormat::JsonSchema(format)) => format.schema.as_mut(),
                _ => None,
            },
            Self::Tool(index) => request.tools.as_mut()?.get_mut(index)?.function.as_mut()?.parameters.as_mut(),
            Self::Function(index) => request.functions.as_mut()?.get_mut(index)?.parameters.as_mut(),
        }
    }
}

/// A keyword that would have no effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unenforced {
    holder: Holder,
    /// Where in the schema: the names and numbers on the way.
    place: Vec<String>,
    keyword: String,
    /// Whether its value is none that it can have (`"properties": 7`).
    malformed: bool,
}

impl Unenforced {
    pub(crate) fn refusal(&self) -> ApiError {
        let place = if self.place.is_empty() { "its root".to_owned() } else { self.pointer() };
        let (param, keyword) = (self.holder.param(), &self.keyword);
        let message = if self.malformed {
            format!("Invalid schema for '{param}': the value of '{keyword}' at {place} is none that JSON Schema knows.")
        } else {
            format!(
                "Invalid schema for '{param}': the engine of this model cannot enforce '{keyword}' at {place}. Leave the keyword out, and check the answer yourself."
            )
        };
        ApiError::invalid(param, "invalid_json_schema", message)
    }

    pub(crate) fn name(&self) -> String {
        format!("{}#{}/{}", self.holder.param(), self.pointer(), self.keyword)
    }

    fn pointer(&self) -> String {
        self.place.iter().flat_map(|part| ["/", part.as_str()]).collect()
    }

    /// Takes the keyword out of the schema. Says whether it was there.
    pub(crate) fn drop_from(&self, request: &mut ChatCompletionRequest) -> bool {
        let inside = |schema| self.place.iter().try_fold(schema, |schema: &mut Value, part| step(schema, part));
        let fields = self.holder.schema(request).and_then(inside).and_then(Value::as_object_mut);
        fields.is_some_and(|fields| fields.shift_remove(&self.keyword).is_some())
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

/// What llguidance knows beyond that (its `src/json/schema.rs`).
const LLGUIDANCE_TOO: [&str; 5] =
    ["multipleOf", "minProperties", "maxProperties", "patternProperties", "additionalItems"];

/// The formats of strings that llama.cpp's converter knows.
const LLAMA_CPP_FORMATS: [&str; 4] = ["date", "time", "date-time", "uuid"];

/// The formats of strings that llguidance knows.
const LLGUIDANCE_FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// What `type` can be.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Whole numbers past this are not told apart by an engine that reads them as floats.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;

/// The first keyword that would have no effect in a schema that the answer is to be held to: that of `response_format`, and those of
/// functions that must be called, or may be and are `strict` where that holds.
pub(crate) fn unenforced(request: &ChatCompletionRequest, can: &Abilities) -> Option<Unenforced> {
    let engine = can.schemas;
    if engine == SchemaEngine::Own {
        return None;
    }
    let of_answer = match &request.response_format {
        Some(ResponseFormat::JsonSchema(format)) => format.schema.as_ref(),
        _ => None,
    };
    let mut schemas = of_answer.map(|schema| (Holder::Answer, schema)).into_iter().chain(held(request, can));
    schemas.find_map(|(holder, schema)| Some(walk(schema, engine, &[])?.in_field(holder)))
}

/// The parameters of functions to whose schemas a call is held.
fn held<'a>(request: &'a ChatCompletionRequest, can: &Abilities) -> impl Iterator<Item = (Holder, &'a Value)> {
    let is_strict = {
        let strict_holds = can.has(Ability::StrictTools);
        move |function: &FunctionDefinition| strict_holds && function.strict == Some(true)
    };
    let (must, callable) = (request.must_call(), request.callable_functions());
    let tools = request.tools.iter().flatten().enumerate().filter_map(|(index, tool)| {
        let function = tool.function.as_ref()?;
        let is_callable = callable.iter().any(|one| std::ptr::eq(*one, function));
        (is_callable && (must || is_strict(function))).then_some((Holder::Tool(index), function.parameters.as_ref()?))
    });
    let (word, named) = match &request.function_call {
        Some(Value::String(word)) => (word.as_str(), None),
        call => ("auto", call.as_ref().and_then(|call| call.get("name")?.as_str())),
    };
    let functions = request.functions.iter().flatten().enumerate().filter_map(move |(index, function)| {
        let is_held = named.map_or_else(|| word != "none" && is_strict(function), |name| name == function.name);
        is_held.then_some((Holder::Function(index), function.parameters.as_ref()?))
    });
    tools.collect::<Vec<_>>().into_iter().chain(functions)
}

fn step<'a>(schema: &'a mut Value, part: &str) -> Option<&'a mut Value> {
    match schema {
        Value::Object(fields) => fields.get_mut(part),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A keyword, where it is in its schema, and whether it is its value that is wrong.
struct Found {
    place: Vec<String>,
    keyword: String,
    malformed: bool,
}

impl Found {
    fn in_field(self, holder: Holder) -> Unenforced {
        let Self { place, keyword, malformed } = self;
        Unenforced { holder, place, keyword, malformed }
    }
}

fn walk(schema: &Value, engine: SchemaEngine, place: &[&str]) -> Option<Found> {
    // `true` and `false` are schemas too.
    let fields = schema.as_object()?;
    for (keyword, value) in fields {
        // A name of its own would make references in there mean something else.
        let is_renamed = engine == SchemaEngine::Llguidance && keyword == "$id" && !place.is_empty();
        if ANNOTATIONS.contains(&keyword.as_str()) && !is_renamed {
            continue;
        }
        let malformed = !is_well_formed(keyword, value);
        if malformed || is_renamed || !enforces(engine, fields, keyword, value) {
            let place = place.iter().map(|part| (*part).to_owned()).collect();
            return Some(Found { place, keyword: keyword.clone(), malformed });
        }
        let inside = [place, &[keyword.as_str()]].concat();
        let deeper = |schema: &Value, part: &str| walk(schema, engine, &[inside.as_slice(), &[part]].concat());
        let found = match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.iter().find_map(|(name, schema)| deeper(schema, name))
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => {
                items.iter().enumerate().find_map(|(index, schema)| deeper(schema, &index.to_string()))
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => walk(schema, engine, &inside),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Whether a keyword has a value that JSON Schema gives it. Engines take another for none.
fn is_well_formed(keyword: &str, value: &Value) -> bool {
    let schemas = |items: &Value| items.as_array().is_some_and(|items| items.iter().all(is_schema));
    match keyword {
        "type" => match value {
            Value::Array(types) => !types.is_empty() && types.iter().all(is_type),
            one => is_type(one),
        },
        "properties" | "$defs" | "definitions" | "patternProperties" => {
            value.as_object().is_some_and(|named| named.values().all(is_schema))
        }
        "required" => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
        "additionalProperties" | "additionalItems" => is_schema(value),
        "items" => is_schema(value) || schemas(value),
        "prefixItems" => schemas(value),
        "anyOf" | "oneOf" | "allOf" => schemas(value) && value != &Value::Array(Vec::new()),
        "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
            value.as_f64().is_some_and(|count| count >= 0.0 && count.fract() == 0.0)
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => value.is_number(),
        "pattern" | "format" | "$ref" => value.is_string(),
        _ => true,
    }
}

/// `true` and `false` are schemas too.
fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn enforces(engine: SchemaEngine, schema: &Map<String, Value>, keyword: &str, value: &Value) -> bool {
    match engine {
        SchemaEngine::Own => true,
        SchemaEngine::Llguidance => {
            let is_known = LLAMA_CPP.contains(&keyword) || LLGUIDANCE_TOO.contains(&keyword);
            is_known && llguidance_enforces(schema, keyword, value)
        }
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

/// llguidance says by itself what it cannot make a grammar of (patterns with look-around, `oneOf` of what may overlap). Here is what it
/// would pass over: names that come twice and count twice, numbers that a float does not hold, characters that only an escape can
/// write.
fn llguidance_enforces(schema: &Map<String, Value>, keyword: &str, value: &Value) -> bool {
    let text = value.as_str();
    match keyword {
        "format" => text.is_some_and(|format| LLGUIDANCE_FORMATS.contains(&format)),
        "$ref" => text.is_some_and(|reference| {
            reference == "#" || reference.starts_with("#/") && !reference.contains(['~', '%'])
        }),
        "minProperties" => {
            let required = schema.get("required").and_then(Value::as_array).map_or(0, Vec::len);
            value.as_u64().is_some_and(|least| least <= required as u64 + 1)
        }
        "prefixItems" => !schema.contains_key("additionalItems") && !schema.get("items").is_some_and(Value::is_array),
        "const" | "enum" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => can_be_written(value),
        _ => true,
    }
}

/// Whether a value can be written exactly.
fn can_be_written(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= LARGEST_EXACT),
        Value::String(text) => {
            text.chars().all(|c| !c.is_ascii_control() || matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{c}'))
        }
        Value::Array(items) => items.iter().all(can_be_written),
        Value::Object(fields) => fields.values().all(can_be_written),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Value, engine: SchemaEngine) -> Option<(String, String)> {
        let Found { place, keyword, malformed } = walk(schema, engine, &[])?;
        assert!(!malformed, "{schema}");
        Some((place.iter().flat_map(|part| ["/", part.as_str()]).collect(), keyword))
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
    }

    #[test]
    fn what_llguidance_passes_over_is_found_with_its_place() {
        let at = |place: &str, keyword: &str| Some((place.to_owned(), keyword.to_owned()));
        for (schema, expected) in [
            (json!({"multipleOf": 2, "pattern": "x", "format": "email", "minimum": 0.5, "$id": "urn:x"}), None),
            (json!({"uniqueItems": true}), at("", "uniqueItems")),
            (json!({"items": {"if": {}}}), at("/items", "if")),
            (json!({"format": "iri"}), at("", "format")),
            (json!({"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#"}], "$defs": {"a": {"type": "null"}}}), None),
            (json!({"properties": {"a": {"$ref": "#/$defs/a~1b"}}}), at("/properties/a", "$ref")),
            (json!({"properties": {"a": {"$id": "urn:x"}}}), at("/properties/a", "$id")),
            (json!({"additionalProperties": {"type": "null"}, "minProperties": 1}), None),
            (json!({"additionalProperties": {"type": "null"}, "minProperties": 2}), at("", "minProperties")),
            (json!({"enum": [1, {"a": 9_007_199_254_740_993_i64}]}), at("", "enum")),
            (json!({"const": "a\u{1}"}), at("", "const")),
            (json!({"const": "a\n\u{e9}"}), None),
            (json!({"prefixItems": [], "additionalItems": false}), at("", "prefixItems")),
            (json!({"x-guidance": {"lenient": true}}), at("", "x-guidance")),
        ] {
            assert_eq!(found(&schema, SchemaEngine::Llguidance), expected, "{schema}");
        }
    }

    #[test]
    fn a_keyword_whose_value_is_none_it_can_have_is_found_with_its_place() {
        for (schema, place, keyword) in [
            (json!({"type": "objekt"}), "", "type"),
            (json!({"type": []}), "", "type"),
            (json!({"properties": 7}), "", "properties"),
            (json!({"properties": {"a": 7}}), "", "properties"),
            (json!({"properties": {"a": {"required": "b"}}}), "/properties/a", "required"),
            (json!({"items": {"enum": []}}), "/items", "enum"),
            (json!({"anyOf": []}), "", "anyOf"),
            (json!({"anyOf": {"type": "null"}}), "", "anyOf"),
            (json!({"minItems": -1}), "", "minItems"),
            (json!({"type": "integer", "exclusiveMinimum": true}), "", "exclusiveMinimum"),
        ] {
            for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
                let found = walk(&schema, engine, &[]).unwrap_or_else(|| panic!("{schema}"));
                let found = found.in_field(Holder::Answer);
                assert!(found.malformed && found.keyword == keyword && found.pointer() == place, "{schema}: {found:?}");
                assert!(found.refusal().error.message.contains("none that JSON Schema knows"), "{schema}");
            }
        }
        let fine =
            json!({"type": ["string", "null"], "minLength": 2.0, "items": true, "anyOf": [true, {"type": "null"}]});
        assert!(walk(&fine, SchemaEngine::LlamaCpp, &[]).is_none());
    }
}
