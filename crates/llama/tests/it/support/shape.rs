//! Validates JSON values with the schema keywords that these tests use, independently of the
//! engine.

use serde_json::Value;

/// Whether the value matches the schema. References are resolved in `root`.
pub(crate) fn keeps(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(fields) = schema.as_object() else {
        return schema.as_bool().unwrap_or(false);
    };
    fields
        .iter()
        .all(|(keyword, says)| keyword_holds(root, schema, keyword, says, value))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn keyword_holds(root: &Value, schema: &Value, keyword: &str, says: &Value, value: &Value) -> bool {
    let inside = |schema: &Value, value: &Value| keeps(root, schema, value);
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    #[allow(clippy::cast_precision_loss, reason = "short texts and lists")]
    let length = length as f64;
    match keyword {
        "type" => says.as_array().map_or_else(
            || is_of(says, value),
            |all| all.iter().any(|one| is_of(one, value)),
        ),
        "enum" => says.as_array().is_some_and(|all| all.contains(value)),
        "const" => says == value,
        "anyOf" => says
            .as_array()
            .is_some_and(|all| all.iter().any(|one| inside(one, value))),
        "$ref" => root
            .pointer(says.as_str().unwrap_or("").trim_start_matches('#'))
            .is_some_and(|one| inside(one, value)),
        "required" => {
            let named = says
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            value
                .as_object()
                .is_none_or(|fields| named.into_iter().all(|name| fields.contains_key(name)))
        }
        "properties" => {
            let known = |(name, value): (&String, &Value)| {
                says.get(name).is_none_or(|schema| inside(schema, value))
            };
            value
                .as_object()
                .is_none_or(|fields| fields.iter().all(known))
        }
        "patternProperties" => {
            let known = |(name, value): (&String, &Value)| {
                says.as_object().is_some_and(|all| {
                    all.iter()
                        .all(|(pattern, one)| !fits(pattern, name) || inside(one, value))
                })
            };
            value
                .as_object()
                .is_none_or(|fields| fields.iter().all(known))
        }
        "additionalProperties" => {
            let patterns = || {
                schema["patternProperties"]
                    .as_object()
                    .into_iter()
                    .flatten()
            };
            let is_known = |name: &str| {
                schema["properties"].get(name).is_some()
                    || patterns().any(|(pattern, _)| fits(pattern, name))
            };
            value.as_object().is_none_or(|all| {
                all.iter()
                    .all(|(name, value)| is_known(name) || inside(says, value))
            })
        }
        "prefixItems" => {
            let schemas = says.as_array().into_iter().flatten();
            value.as_array().is_none_or(|items| {
                schemas
                    .zip(items)
                    .all(|(schema, item)| inside(schema, item))
            })
        }
        "items" => {
            let first = schema["prefixItems"].as_array().map_or(0, Vec::len);
            value
                .as_array()
                .is_none_or(|items| items.iter().skip(first).all(|item| inside(says, item)))
        }
        "pattern" => value
            .as_str()
            .is_none_or(|text| fits(says.as_str().unwrap_or(""), text)),
        "format" => value
            .as_str()
            .is_none_or(|text| is_written_as(says.as_str().unwrap_or(""), text)),
        "minItems" if value.is_array() => length >= number(says),
        "maxItems" if value.is_array() => length <= number(says),
        "maxProperties" if value.is_object() => length <= number(says),
        "minLength" if value.is_string() => length >= number(says),
        "maxLength" if value.is_string() => length <= number(says),
        "minimum" if value.is_number() => number(value) >= number(says),
        "maximum" if value.is_number() => number(value) <= number(says),
        "exclusiveMinimum" if value.is_number() => number(value) > number(says),
        "multipleOf" if value.is_number() => number(value) % number(says) == 0.0,
        "maxProperties" | "exclusiveMinimum" | "multipleOf" | "minItems" | "maxItems"
        | "minLength" | "maxLength" | "minimum" | "maximum" | "$defs" | "title" => true,
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

/// Whether a text matches a pattern. Only the patterns of these tests are supported, each by
/// handwritten code.
fn fits(pattern: &str, text: &str) -> bool {
    let all = |text: &str, is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
    match pattern {
        "^[A-Z]{3}-[0-9]{4}$" => text.split_once('-').is_some_and(|(letters, digits)| {
            letters.len() == 3
                && digits.len() == 4
                && all(letters, u8::is_ascii_uppercase)
                && all(digits, u8::is_ascii_digit)
        }),
        "^[a-z]{1,6}$" => (1..=6).contains(&text.len()) && all(text, u8::is_ascii_lowercase),
        _ => false,
    }
}

/// Whether a text has a format. Only the formats of these tests are supported. As in the engine,
/// each year has a 29th of February.
fn is_written_as(format: &str, text: &str) -> bool {
    match format {
        "date" => {
            let parts: Vec<u8> = text
                .split('-')
                .skip(1)
                .filter_map(|part| part.parse().ok())
                .collect();
            let shape: Vec<usize> = text.split('-').map(str::len).collect();
            let days = |month| match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let is_digits = text
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_digit());
            let is_day = matches!(parts[..], [month, day] if (1..=12).contains(&month) && (1..=days(month)).contains(&day));
            shape == [4, 2, 2] && is_digits && is_day
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "uuid" => {
            let shape: Vec<usize> = text.split('-').map(str::len).collect();
            shape == [8, 4, 4, 4, 12]
                && text
                    .bytes()
                    .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        }
        _ => false,
    }
}

/// Short schemas of many kinds, with a question for each. None is recursive, because nothing would
/// limit the length of an answer.
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
        (
            "How old is the Earth, in billions of years?",
            json!({"type": "integer", "minimum": 0, "maximum": 100}),
        ),
        (
            "Where is Paris?",
            object(
                json!({"note": {"type": "string", "maxLength": 20}, "place": object(
                json!({"lat": {"type": "number", "minimum": -90, "maximum": 90}, "north": {"type": ["boolean", "null"]}}), json!(["lat"]))}),
                json!(["place"]),
            ),
        ),
        (
            "Make up two product codes.",
            json!({"type": "array", "items": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, "minItems": 2, "maxItems": 2}),
        ),
        (
            "When did the server start, and where is it?",
            object(
                json!({"on": {"type": "string", "format": "date"}, "id": {"type": "string", "format": "uuid"},
                    "address": {"type": "string", "format": "ipv4"}}),
                json!(["on", "id", "address"]),
            ),
        ),
        (
            "Draw a circle or a square.",
            json!({"anyOf": [
                object(json!({"kind": {"const": "circle"}, "radius": {"type": "integer", "minimum": 1, "maximum": 99}}), json!(["kind", "radius"])),
                object(json!({"kind": {"const": "square"}, "side": {"enum": [1, 2.5, "unknown", null]}}), json!(["kind", "side"])),
            ]}),
        ),
        (
            "Write a matrix of two rows.",
            json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "array", "minItems": 3, "maxItems": 3,
                "items": {"type": "integer", "minimum": -9, "maximum": 9}}}),
        ),
        (
            "Which city is the biggest, and what is its rank?",
            json!({"type": "array", "prefixItems": [{"type": "string", "maxLength": 16}, {"type": "integer", "minimum": 1, "maximum": 9}],
                "items": false, "minItems": 2}),
        ),
        (
            "Count the fruit.",
            json!({"type": "object", "patternProperties": {"^[a-z]{1,6}$": {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 0, "maximum": 100}},
                "additionalProperties": false, "maxProperties": 3}),
        ),
    ]
}
