//! Which keywords of a JSON schema the engine behind cannot enforce, and which are not as JSON Schema has them. It would pass over both
//! without a word, so they are refused, by keyword and place. So is what no value can keep to: llama.cpp's server never comes back from it.
//!
//! What each engine enforces: `llama_cpp.rs` (with `pattern.rs` and `disjoint.rs`), `llguidance.rs`.

mod disjoint;
mod llama_cpp;
mod llguidance;
mod pattern;

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
    fault: Fault,
}

/// What is wrong with a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The engine passes over it.
    Unenforced,
    /// Its value is none that it can have (`"properties": 7`).
    Malformed,
    /// No value keeps to it and to what stands beside it (`"minItems": 3` beside `"maxItems": 2`).
    Impossible,
}

impl Unenforced {
    pub(crate) fn refusal(&self) -> ApiError {
        let place = if self.place.is_empty() { "its root".to_owned() } else { self.pointer() };
        let (param, keyword) = (self.holder.param(), &self.keyword);
        let wrong = match self.fault {
            Fault::Unenforced => format!(
                "the engine of this model cannot enforce '{keyword}' at {place}. Leave the keyword out, and check the answer yourself."
            ),
            Fault::Malformed => format!("the value of '{keyword}' at {place} is none that JSON Schema knows."),
            Fault::Impossible => format!("no value can keep to '{keyword}' at {place} and to what stands beside it."),
        };
        let message = format!("Invalid schema for '{param}': {wrong}");
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

/// What `type` can be.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

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
    schemas.find_map(|(holder, schema)| Some(Walk { engine, root: schema }.of(schema, &[])?.in_field(holder)))
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

/// A keyword, where it is in its schema, and what is wrong with it.
struct Found {
    place: Vec<String>,
    keyword: String,
    fault: Fault,
}

impl Found {
    fn in_field(self, holder: Holder) -> Unenforced {
        let Self { place, keyword, fault } = self;
        Unenforced { holder, place, keyword, fault }
    }
}

/// A walk over a schema, keyword by keyword. References are not followed: what they lead to is in the schema, and walked there.
struct Walk<'a> {
    engine: SchemaEngine,
    /// What references lead into.
    root: &'a Value,
}

impl Walk<'_> {
    fn of(&self, schema: &Value, place: &[&str]) -> Option<Found> {
        // `true` and `false` are schemas too.
        let fields = schema.as_object()?;
        if let Some((keyword, fault)) = self.wrong(fields, place.is_empty()) {
            let place = place.iter().map(|part| (*part).to_owned()).collect();
            return Some(Found { place, keyword: keyword.clone(), fault });
        }
        fields.iter().find_map(|(keyword, value)| self.within(keyword, value, &[place, &[keyword.as_str()]].concat()))
    }

    /// The first keyword with something wrong, of one schema by itself.
    fn wrong<'a>(&self, fields: &'a Map<String, Value>, is_root: bool) -> Option<(&'a String, Fault)> {
        // A name of its own would make references in there mean something else.
        let is_renamed = |keyword: &str| self.engine == SchemaEngine::Llguidance && keyword == "$id" && !is_root;
        let is_said = |keyword: &str| !ANNOTATIONS.contains(&keyword) || is_renamed(keyword);
        let said = || fields.iter().filter(|(keyword, _)| is_said(keyword));
        if let Some((keyword, _)) = said().find(|(keyword, value)| !is_well_formed(keyword, value)) {
            return Some((keyword, Fault::Malformed));
        }
        if let Some(keyword) = impossible(fields) {
            return Some((keyword, Fault::Impossible));
        }
        let unenforced = match self.engine {
            SchemaEngine::Own => None,
            SchemaEngine::LlamaCpp => llama_cpp::passed_over(fields, self.root, is_said),
            SchemaEngine::Llguidance => {
                let passed_over = |(keyword, value): &(&String, &Value)| {
                    is_renamed(keyword) || !llguidance::enforces(fields, keyword, value)
                };
                said().find(passed_over).map(|(keyword, _)| keyword)
            }
        };
        unenforced.map(|keyword| (keyword, Fault::Unenforced))
    }

    /// The schemas that a keyword holds.
    fn within(&self, keyword: &str, value: &Value, inside: &[&str]) -> Option<Found> {
        let deeper = |schema: &Value, part: &str| self.of(schema, &[inside, &[part]].concat());
        match (keyword, value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.iter().find_map(|(name, schema)| deeper(schema, name))
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => {
                items.iter().enumerate().find_map(|(index, schema)| deeper(schema, &index.to_string()))
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => self.of(schema, inside),
            _ => None,
        }
    }
}

/// The greater of two bounds that leave nothing between them.
fn impossible(fields: &Map<String, Value>) -> Option<&String> {
    let bounds = [
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
        ("minimum", "maximum"),
        ("exclusiveMinimum", "maximum"),
        ("minimum", "exclusiveMaximum"),
        ("exclusiveMinimum", "exclusiveMaximum"),
    ];
    let bound = |name: &str| fields.get(name).and_then(Value::as_f64);
    let excludes = |name: &str| name.starts_with("exclusive");
    let crossed = bounds.into_iter().find(|(least, most)| {
        bound(least)
            .zip(bound(most))
            .is_some_and(|(from, to)| from > to || from >= to && (excludes(least) || excludes(most)))
    });
    fields.get_key_value(crossed?.1).map(|(keyword, _)| keyword)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Value, engine: SchemaEngine) -> Option<(String, String)> {
        let Found { place, keyword, fault } = Walk { engine, root: schema }.of(schema, &[])?;
        assert_eq!(fault, Fault::Unenforced, "{schema}");
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
            (json!({"type": ["integer", "null"], "format": "int32"}), None),
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
                let found = Walk { engine, root: &schema }.of(&schema, &[]).unwrap_or_else(|| panic!("{schema}"));
                let found = found.in_field(Holder::Answer);
                assert_eq!((found.fault, found.pointer().as_str()), (Fault::Malformed, place), "{schema}");
                assert_eq!(found.keyword, keyword, "{schema}");
                assert!(found.refusal().error.message.contains("none that JSON Schema knows"), "{schema}");
            }
        }
        let fine =
            json!({"type": ["string", "null"], "minLength": 2.0, "items": true, "anyOf": [true, {"type": "null"}]});
        assert!(found(&fine, SchemaEngine::Llguidance).is_none());
    }

    #[test]
    fn what_no_value_can_keep_to_is_found_with_its_place() {
        for (schema, keyword) in [
            (json!({"type": "string", "minLength": 3, "maxLength": 2}), "maxLength"),
            (json!({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}), "maxItems"),
            (json!({"type": "integer", "minimum": 3, "maximum": 2}), "maximum"),
            (json!({"type": "integer", "minimum": 3, "exclusiveMaximum": 3}), "exclusiveMaximum"),
        ] {
            let schema = json!({"type": "object", "properties": {"a": schema}});
            for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
                let found = Walk { engine, root: &schema }.of(&schema, &[]).unwrap_or_else(|| panic!("{schema}"));
                let found = found.in_field(Holder::Answer);
                assert_eq!((found.fault, found.pointer().as_str()), (Fault::Impossible, "/properties/a"), "{schema}");
                assert_eq!(found.keyword, keyword);
                assert!(found.refusal().error.message.contains("no value can keep to"), "{schema}");
            }
        }
        let just = json!({"type": "integer", "minimum": 3, "maximum": 3});
        assert!(found(&just, SchemaEngine::LlamaCpp).is_none());
    }

    /// What Pydantic and Zod make of usual types.
    #[test]
    fn usual_schemas_pass_llama_cpp() {
        let closed = |properties: Value| json!({"type": "object", "properties": properties, "required": ["a"], "additionalProperties": false});
        let cat =
            json!({"type": "object", "properties": {"kind": {"const": "cat", "type": "string"}}, "required": ["kind"]});
        let dog =
            json!({"type": "object", "properties": {"kind": {"const": "dog", "type": "string"}}, "required": ["kind"]});
        for property in [
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "A"}),
            json!({"$ref": "#/$defs/cat", "description": "a cat"}),
            json!({"enum": ["x", "y"], "type": "string"}),
            json!({"const": 1, "type": "integer"}),
            json!({"type": ["string", "null"], "enum": ["x", null]}),
            json!({"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": 9}),
            json!({"type": "integer", "exclusiveMinimum": 0, "format": "int32"}),
            json!({"type": "number", "format": "double"}),
            json!({"type": "string", "format": "date-time"}),
            json!({"type": "array", "items": {"$ref": "#/$defs/cat"}, "minItems": 1, "maxItems": 3}),
            json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2}),
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"type": "object", "additionalProperties": true}),
            json!({"type": "object"}),
            json!({"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
                "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/cat"}}}),
            json!({"anyOf": [{"type": "integer"}, {"type": "null"}], "type": ["number", "null"]}),
            json!({"allOf": [{"$ref": "#/$defs/cat"}], "description": "as older versions wrote it"}),
            json!({}),
        ] {
            let mut schema = closed(json!({"a": property}));
            schema["$defs"] = json!({"cat": cat, "dog": dog});
            assert_eq!(found(&schema, SchemaEngine::LlamaCpp), None, "{schema}");
        }
    }

    #[test]
    fn llama_cpp_takes_one_way_and_passes_over_what_stands_beside_it() {
        let object = json!({"type": "object", "properties": {"p": {"type": "null"}}});
        let with = |schema: &Value, more: Value| {
            let mut schema = schema.clone();
            schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            schema
        };
        let text = json!({"type": "string"});
        for (schema, keyword) in [
            (json!({"$ref": "#/$defs/s", "minLength": 4}), "minLength"),
            (json!({"$ref": "#/$defs/none"}), "$ref"),
            (json!({"$ref": "#"}), "$ref"),
            (with(&object, json!({"anyOf": [{"required": ["p"]}]})), "type"),
            (with(&object, json!({"required": ["q"]})), "required"),
            (with(&object, json!({"allOf": [object]})), "allOf"),
            (with(&object, json!({"minProperties": 1})), "minProperties"),
            (json!({"type": "object", "required": ["x"]}), "required"),
            (json!({"properties": {"a": true}}), "properties"),
            (json!({"type": "string", "allOf": [{"pattern": "^a$"}]}), "type"),
            (json!({"allOf": [{"$ref": "#/$defs/s"}]}), "allOf"),
            (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
            (json!({"enum": ["x", 1], "type": "integer"}), "type"),
            (json!({"enum": ["x", "xx"], "minLength": 2}), "minLength"),
            (json!({"type": "array", "minItems": 2}), "minItems"),
            (json!({"type": "array", "items": {"type": "null"}, "prefixItems": [{"type": "null"}]}), "prefixItems"),
            (json!({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 2}), "minItems"),
            (json!({"type": "array", "items": true}), "items"),
            (with(&text, json!({"pattern": "^a+$", "maxLength": 2})), "maxLength"),
            (with(&text, json!({"pattern": r"^\d+$"})), "pattern"),
            (with(&text, json!({"format": "date", "minLength": 20})), "minLength"),
            (with(&text, json!({"format": "email"})), "format"),
            (with(&text, json!({"maxLength": 2000})), "maxLength"),
            (json!({"minLength": 2}), "minLength"),
            (json!({"type": ["integer", "number"], "minimum": 3}), "minimum"),
            (json!({"type": "integer", "minimum": 3.5}), "minimum"),
            (json!({"type": "integer", "minimum": 1, "exclusiveMinimum": 3}), "exclusiveMinimum"),
        ] {
            let mut schema = schema;
            schema["$defs"] = json!({"s": {"type": "string", "enum": ["a"]}});
            assert_eq!(found(&schema, SchemaEngine::LlamaCpp), Some((String::new(), keyword.to_owned())), "{schema}");
        }
    }
}
