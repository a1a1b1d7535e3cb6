//! Adds optional fields to functions, for engines and chat templates that read them without
//! checking whether they are present.

use loggia_wire::openai::{FunctionDefinition, Tool};
use serde_json::{Map, Value, json};

/// Keywords of a schema that define properties elsewhere.
const ELSEWHERE: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Returns the function with a description, and with the parameters of a function without arguments
/// if it has none.
pub fn described(function: &FunctionDefinition) -> FunctionDefinition {
    let mut function = function.clone();
    function.description.get_or_insert_default();
    if function.parameters.as_ref().is_none_or(is_empty) {
        function.parameters = Some(json!({"type": "object", "properties": {}}));
    }
    function
}

/// Returns the function with a description, and with `type` and `properties` in its parameters. For
/// display to a model: as a schema, the result may allow less than before.
pub fn completed(function: &FunctionDefinition) -> FunctionDefinition {
    let mut function = described(function);
    if let Some(Value::Object(parameters)) = &mut function.parameters
        && !ELSEWHERE
            .iter()
            .any(|keyword| parameters.contains_key(*keyword))
    {
        parameters.entry("type").or_insert_with(|| "object".into());
        parameters
            .entry("properties")
            .or_insert_with(|| Map::new().into());
    }
    function
}

/// Returns the function in the simplest form that a template may expect: each property has one type
/// and a description, and the rest of its schema is text in the description.
pub fn simplified(function: &FunctionDefinition) -> FunctionDefinition {
    let mut function = completed(function);
    let Some(Value::Object(parameters)) = function.parameters.take() else {
        return function;
    };
    let of = |name: &str| parameters.get(name).cloned();
    let properties = match of("properties") {
        Some(Value::Object(properties)) => properties
            .into_iter()
            .map(|(name, schema)| (name, property(&schema)))
            .collect(),
        _ => Map::new(),
    };
    let rest: Map<String, Value> = parameters
        .iter()
        .filter(|(name, _)| !SHOWN.contains(&name.as_str()))
        .map(owned)
        .collect();
    if !rest.is_empty() {
        function.description = Some(and_as_json(
            function.description.as_deref().unwrap_or_default(),
            &rest.into(),
        ));
    }
    let required: Vec<Value> = of("required")
        .and_then(|names| names.as_array().cloned())
        .unwrap_or_default();
    function.parameters =
        Some(json!({"type": "object", "properties": properties, "required": required}));
    function
}

/// The keywords of a function's parameters that are kept beside its properties.
const SHOWN: [&str; 4] = ["type", "properties", "required", "additionalProperties"];

fn property(schema: &Value) -> Value {
    let says = |name: &str| schema.get(name).and_then(Value::as_str);
    let description = says("description").unwrap_or_default();
    let is_plain = schema
        .as_object()
        .is_some_and(|all| all.keys().all(|key| key == "type" || key == "description"));
    let kind = says("type");
    // A template may read the item type of a list, or the properties of an object.
    match kind.filter(|kind| !matches!(*kind, "array" | "object")) {
        Some(kind) if is_plain => json!({"type": kind, "description": description}),
        kind => {
            json!({"type": kind.unwrap_or("string"), "description": and_as_json(description, &without_description(schema))})
        }
    }
}

fn without_description(schema: &Value) -> Value {
    match schema {
        Value::Object(all) => all
            .iter()
            .filter(|(key, _)| *key != "description")
            .map(owned)
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn and_as_json(description: &str, schema: &Value) -> String {
    if schema.as_object().is_some_and(Map::is_empty) || *schema == Value::Bool(true) {
        return description.to_owned();
    }
    let between = if description.is_empty() { "" } else { " " };
    format!("{description}{between}JSON schema: {schema}")
}

/// Returns the tools with [`described`] functions, or `None` if nothing changes.
pub(crate) fn described_all(tools: &[Tool]) -> Option<Vec<Tool>> {
    let lacks = |tool: &Tool| {
        let function = tool.function.as_ref();
        function.is_some_and(|it| {
            it.description.is_none() || it.parameters.as_ref().is_none_or(is_empty)
        })
    };
    let describe = |tool: &Tool| Tool {
        function: tool.function.as_ref().map(described),
        ..tool.clone()
    };
    tools
        .iter()
        .any(lacks)
        .then(|| tools.iter().map(describe).collect())
}

fn is_empty(parameters: &Value) -> bool {
    parameters.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(
        rewrite: impl Fn(&FunctionDefinition) -> FunctionDefinition,
        function: &Value,
    ) -> Value {
        json!(rewrite(&serde_json::from_value(function.clone()).unwrap()))
    }

    #[test]
    fn a_function_gets_what_is_optional_and_keeps_what_it_has() {
        let none = json!({"type": "object", "properties": {}});
        let bare = json!({"name": "f"});
        assert_eq!(
            rewritten(described, &bare),
            json!({"name": "f", "description": "", "parameters": none})
        );
        let free = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
        assert_eq!(rewritten(described, &free), free);
        assert_eq!(
            rewritten(completed, &free),
            json!({"name": "f", "description": "d", "parameters": none})
        );
        let elsewhere = json!({"name": "f", "description": "d", "parameters": {"$ref": "#/$defs/a", "$defs": {"a": {}}}});
        assert_eq!(rewritten(completed, &elsewhere), elsewhere);
    }

    #[test]
    fn what_a_simple_schema_cannot_say_stands_in_the_description() {
        let properties = json!({"a": {"type": "string", "description": "A."}, "b": {"type": ["string", "null"]}, "c": true, "d": {"type": "integer", "minimum": 0, "description": "D."}, "e": {"type": "array"}});
        let function = json!({"name": "f", "parameters": {"properties": properties, "required": ["a"], "$defs": {"x": {}}}});
        let simple = json!({
            "a": {"type": "string", "description": "A."},
            "b": {"type": "string", "description": "JSON schema: {\"type\":[\"string\",\"null\"]}"},
            "c": {"type": "string", "description": ""},
            "d": {"type": "integer", "description": "D. JSON schema: {\"type\":\"integer\",\"minimum\":0}"},
            "e": {"type": "string", "description": "JSON schema: {\"type\":\"array\"}"},
        });
        let expected = json!({"name": "f", "description": "JSON schema: {\"$defs\":{\"x\":{}}}",
            "parameters": {"type": "object", "properties": simple, "required": ["a"]}});
        assert_eq!(rewritten(simplified, &function), expected);
    }
}
