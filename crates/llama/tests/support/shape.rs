//! Whether a JSON value keeps to a schema: the keywords that these tests use, told independently of the engine.

use serde_json::Value;

/// Whether it does; `root` is what references are relative to.
pub(crate) fn keeps(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return schema.as_bool().unwrap_or(false) };
    fields.iter().all(|(keyword, says)| keyword_holds(root, schema, keyword, says, value))
}

fn keyword_holds(root: &Value, schema: &Value, keyword: &str, says: &Value, value: &Value) -> bool {
    let inside = |schema: &Value, value: &Value| keeps(root, schema, value);
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    #[allow(clippy::cast_precision_loss, reason = "short texts and lists")]
    let length = length as f64;
    match keyword {
        "type" => says.as_array().map_or_else(|| is_of(says, value), |all| all.iter().any(|one| is_of(one, value))),
        "enum" => says.as_array().is_some_and(|all| all.contains(value)),
        "const" => says == value,
        "anyOf" => says.as_array().is_some_and(|all| all.iter().any(|one| inside(one, value))),
        "$ref" => {
            root.pointer(says.as_str().unwrap_or("").trim_start_matches('#')).is_some_and(|one| inside(one, value))
        }
        "required" => {
            let named = says.as_array().into_iter().flatten().filter_map(Value::as_str);
            value.as_object().is_none_or(|fields| named.into_iter().all(|name| fields.contains_key(name)))
        }
        "properties" => {
            let known = |(name, value): (&String, &Value)| says.get(name).is_none_or(|schema| inside(schema, value));
            value.as_object().is_none_or(|fields| fields.iter().all(known))
        }
        "additionalProperties" => {
            let is_known = |name: &str| schema["properties"].get(name).is_some();
            value.as_object().is_none_or(|all| all.iter().all(|(name, value)| is_known(name) || inside(says, value)))
        }
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| inside(says, item))),
        "minItems" if value.is_array() => length >= number(says),
        "maxItems" if value.is_array() => length <= number(says),
        "minLength" if value.is_string() => length >= number(says),
        "maxLength" if value.is_string() => length <= number(says),
        "minimum" if value.is_number() => number(value) >= number(says),
        "maximum" if value.is_number() => number(value) <= number(says),
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minimum" | "maximum" | "$defs" | "title" => true,
        _ => false,
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

/// Short schemas of many kinds, with a question for each.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    use serde_json::json;
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    vec![
        (
            "Who wrote Hamlet?",
            object(
                json!({"name": {"type": "string", "maxLength": 30}, "born": {"type": "integer", "minimum": 1000, "maximum": 2000}}),
                json!(["name", "born"]),
            ),
        ),
        (
            "Classify: I love this film!",
            object(
                json!({"sentiment": {"enum": ["good", "bad", "mixed"]}, "sure": {"type": "boolean"}}),
                json!(["sentiment", "sure"]),
            ),
        ),
        (
            "Name three colours.",
            json!({"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 12}, "minItems": 3, "maxItems": 3}),
        ),
        (
            "Describe a small family tree.",
            json!({"$ref": "#/$defs/person", "$defs": {"person": object(
                json!({"name": {"type": "string", "maxLength": 10}, "child": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {
                    "name": {"type": "string", "maxLength": 10}}, "required": ["name"], "additionalProperties": false}]}}),
                json!(["name", "child"]))}}),
        ),
        ("How old is the Earth, in billions of years?", json!({"type": "integer", "minimum": 0, "maximum": 100})),
        (
            "Where is Paris?",
            object(
                json!({"note": {"type": "string", "maxLength": 20}, "place": object(
                json!({"lat": {"type": "number", "minimum": -90, "maximum": 90}, "north": {"type": ["boolean", "null"]}}), json!(["lat"]))}),
                json!(["place"]),
            ),
        ),
    ]
}
