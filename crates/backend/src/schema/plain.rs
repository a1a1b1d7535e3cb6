//! Normalises one schema: replaces equivalent keywords by those that engines read.

use serde_json::{Map, Number, Value, json};

use super::keywords::{asserts, says_nothing, type_of, types_of};
use crate::SchemaEngine;

/// Returns the schema that this one only wraps, and the keyword: `allOf`, `anyOf` or `oneOf` with
/// one entry and nothing beside it but annotations and definitions.
pub(super) fn wrapped(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut said = fields
        .iter()
        .filter(|(keyword, value)| asserts(keyword, value));
    let (keyword, value) = said.next().filter(|_| said.next().is_none())?;
    let is_chooser = matches!(keyword.as_str(), "allOf" | "anyOf" | "oneOf");
    match value.as_array().filter(|_| is_chooser)?.as_slice() {
        [one] if one.is_object() => Some((keyword, one)),
        _ => None,
    }
}

/// Returns whether a reference leads to a place within such a wrapper, which would disappear.
pub(super) fn refers_through_wrappers(schema: &Value) -> bool {
    let leads = |to: &Value| {
        let steps = to.as_str().into_iter().flat_map(|to| to.split('/'));
        steps
            .into_iter()
            .any(|step| matches!(step, "allOf" | "anyOf" | "oneOf"))
    };
    match schema {
        Value::Object(fields) => fields.iter().any(|(keyword, value)| {
            keyword == "$ref" && leads(value) || refers_through_wrappers(value)
        }),
        Value::Array(items) => items.iter().any(refers_through_wrappers),
        _ => false,
    }
}

/// Returns whether the schema is `nullable`, as in `OpenAPI` 3.0.
pub(super) fn is_nullable(schema: &Value) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

/// Returns whether a schema with a `type`, alternatives or a reference also allows null.
pub(super) fn is_nullable_by_type(fields: &Map<String, Value>) -> bool {
    let chooses = ["type", "$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .any(|keyword| fields.contains_key(*keyword));
    chooses && fields.get("nullable") == Some(&Value::Bool(true))
}

/// Returns a schema that allows `schema` or null.
pub(super) fn or_null(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// Normalises the assertions of one schema for an engine.
pub(super) fn plain(own: &mut Map<String, Value>, is_nullable: bool, engine: SchemaEngine) {
    exclusive_bounds_are_numbers(own);
    if let Some(one) = inferred_type(own) {
        own.insert("type".to_owned(), json!(one));
    }
    if is_nullable {
        allow_null(own);
    }
    keep_values_of_type(own);
    drop_idle(own);
    let is_alone = !["$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .any(|keyword| own.contains_key(*keyword));
    if own.get("unevaluatedProperties") == Some(&Value::Bool(false)) && is_alone {
        own.shift_remove("unevaluatedProperties");
        own.entry("additionalProperties")
            .or_insert(Value::Bool(false));
    }
    names_of_properties(own);
    match engine {
        SchemaEngine::LlamaCpp => for_llama_cpp(own),
        SchemaEngine::Llguidance => drop_widest_bounds(own),
        SchemaEngine::Own => {}
    }
}

/// Converts booleans to numbers: in draft 4 and `OpenAPI` 3.0, `true` beside a bound excludes the
/// bound itself.
fn exclusive_bounds_are_numbers(own: &mut Map<String, Value>) {
    for (exclusive, bound) in [
        ("exclusiveMinimum", "minimum"),
        ("exclusiveMaximum", "maximum"),
    ] {
        if own.get(exclusive).is_some_and(Value::is_boolean) {
            own.shift_remove(exclusive);
            if let Some(value) = own.shift_remove(bound) {
                own.insert(exclusive.to_owned(), value);
            }
        }
    }
}

/// Returns the implied type of a schema without `type`: the one that all of its keywords apply to.
pub(super) fn inferred_type(own: &Map<String, Value>) -> Option<&'static str> {
    let leads = ["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"];
    if leads.iter().any(|keyword| own.contains_key(*keyword)) {
        return None;
    }
    let mut types = own.keys().filter_map(|keyword| type_of(keyword));
    let first = types.next()?;
    types.all(|one| one == first).then_some(first)
}

fn allow_null(own: &mut Map<String, Value>) {
    match own.get_mut("type") {
        Some(Value::Array(types)) if !types.iter().any(|one| one == "null") => {
            types.push(json!("null"));
        }
        Some(Value::String(one)) if one != "null" => {
            let types = json!([one, "null"]);
            own.insert("type".to_owned(), types);
        }
        _ => {}
    }
    if let Some(Value::Array(alternatives)) = own.get_mut("anyOf") {
        alternatives.push(json!({"type": "null"}));
    } else if let Some(reference) = own.shift_remove("$ref") {
        own.insert(
            "anyOf".to_owned(),
            json!([{"$ref": reference}, {"type": "null"}]),
        );
    }
}

fn types(own: &Map<String, Value>) -> Option<Vec<&str>> {
    match own.get("type")? {
        Value::Array(several) => Some(several.iter().filter_map(Value::as_str).collect()),
        one => Some(vec![one.as_str()?]),
    }
}

/// Removes listed values whose type is not allowed.
fn keep_values_of_type(own: &mut Map<String, Value>) {
    let Some(types) = types(own) else { return };
    let is_of_type = |value: &Value| types_of(value).iter().any(|one| types.contains(one));
    let Some(Value::Array(values)) = own.get("enum") else {
        return;
    };
    let kept: Vec<Value> = values
        .iter()
        .filter(|value| is_of_type(value))
        .cloned()
        .collect();
    if !kept.is_empty() && kept.len() < values.len() {
        own.insert("enum".to_owned(), Value::Array(kept));
    }
}

/// Removes keywords without effect: those for other types, and parts of conditions without the
/// condition.
fn drop_idle(own: &mut Map<String, Value>) {
    let said: Option<Vec<String>> =
        types(own).map(|types| types.into_iter().map(str::to_owned).collect());
    own.retain(|keyword, _| match (type_of(keyword), &said) {
        (Some("number"), Some(types)) => {
            types.iter().any(|one| one == "number" || one == "integer")
        }
        (Some(about), Some(types)) => types.iter().any(|one| one == about),
        _ => true,
    });
    let required = own
        .get("required")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if own
        .get("minProperties")
        .and_then(Value::as_u64)
        .is_some_and(|least| least <= required as u64)
    {
        own.shift_remove("minProperties");
    }
}

/// Turns listed names (`Record<"a" | "b", …>`) into properties.
fn names_of_properties(own: &mut Map<String, Value>) {
    let names = own
        .get("propertyNames")
        .and_then(|names| names.get("enum"))
        .and_then(Value::as_array);
    let names: Option<Vec<String>> = names.and_then(|names| {
        names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect()
    });
    let (Some(names), false) = (
        names,
        own.contains_key("properties") || own.contains_key("patternProperties"),
    ) else {
        return;
    };
    let each = own
        .get("additionalProperties")
        .cloned()
        .unwrap_or_else(|| json!({}));
    own.shift_remove("propertyNames");
    own.insert(
        "properties".to_owned(),
        names.into_iter().map(|name| (name, each.clone())).collect(),
    );
    own.insert("additionalProperties".to_owned(), Value::Bool(false));
}

/// Removes bounds beyond 64 bits, the size of the embedded engine's integers.
fn drop_widest_bounds(own: &mut Map<String, Value>) {
    if own.get("type").is_none_or(|one| one != "integer") {
        return;
    }
    let is_wide = |bound: &Value| bound.as_f64().is_some_and(|bound| bound.abs() >= WIDEST);
    let says_more = |keyword: &str, bound: &Value| {
        let excludes_all = bound
            .as_f64()
            .is_some_and(|bound| bound.is_sign_negative() == keyword.ends_with("aximum"));
        excludes_all || !is_wide(bound)
    };
    let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    own.retain(|keyword, bound| !bounds.contains(&keyword.as_str()) || says_more(keyword, bound));
}

/// Rewrites keywords that the converter supports only in another, equivalent form.
fn for_llama_cpp(own: &mut Map<String, Value>) {
    let is = |own: &Map<String, Value>, name: &str| {
        types(own).is_some_and(|types| types.contains(&name))
    };
    if is(own, "object") {
        let named: Vec<String> =
            own.get("required")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |names| {
                    names
                        .iter()
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect()
                });
        let is_closed = own.get("additionalProperties") == Some(&Value::Bool(false));
        let others = own
            .get("additionalProperties")
            .filter(|others| others.is_object())
            .cloned();
        if own.contains_key("properties")
            || !named.is_empty() && !is_closed && !own.contains_key("allOf")
        {
            let properties = own.entry("properties").or_insert_with(|| json!({}));
            if let Value::Object(properties) = properties {
                properties.values_mut().for_each(as_object);
                for name in named.into_iter().filter(|_| !is_closed) {
                    properties
                        .entry(name)
                        .or_insert_with(|| others.clone().unwrap_or_else(|| json!({})));
                }
            }
        }
    }
    if is(own, "array") {
        if let Some(items) = own.get_mut("items") {
            as_object(items);
        }
        // The converter requires all listed items of a tuple, and no others.
        if own.contains_key("prefixItems")
            && own
                .get("items")
                .is_some_and(|items| items == false || says_nothing(items))
        {
            own.shift_remove("items");
        }
        let counts = ["minItems", "maxItems"]
            .iter()
            .any(|keyword| own.contains_key(*keyword));
        if counts && !own.contains_key("items") && !own.contains_key("prefixItems") {
            own.insert("items".to_owned(), json!({}));
        }
    }
    if is(own, "string") {
        format_as_pattern(own);
    }
    if types(own).is_some_and(|types| types.contains(&"integer") && !types.contains(&"number")) {
        whole_bounds(own);
    }
}

/// Patterns for formats that the converter does not support. Those for host names and addresses
/// cover the usual ones.
const PATTERNS: [(&str, &str); 3] = [
    (
        "email",
        r"^[a-zA-Z0-9_+-]+(\.[a-zA-Z0-9_+-]+)*@[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)+$",
    ),
    (
        "hostname",
        r"^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*$",
    ),
    (
        "ipv4",
        r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$",
    ),
];

fn format_as_pattern(own: &mut Map<String, Value>) {
    let format = own.get("format").and_then(Value::as_str);
    let known = format.and_then(|format| PATTERNS.iter().find(|(name, _)| *name == format));
    if let Some((_, pattern)) = known
        && !own.contains_key("pattern")
    {
        own.shift_remove("format");
        own.insert("pattern".to_owned(), json!(pattern));
    }
}

/// Replaces `true` by an empty object.
fn as_object(schema: &mut Value) {
    if schema == &Value::Bool(true) {
        *schema = json!({});
    }
}

/// The limit of the integers that the embedded engine writes.
const WIDEST: f64 = 9_223_372_036_854_774_784.0;

/// The largest integer for which llama.cpp's grammar converter writes a range.
const LARGEST: f64 = 999_999_999_999_999.0;

/// Rounds the bounds of integers, and keeps one per side.
fn whole_bounds(own: &mut Map<String, Value>) {
    let bound = |own: &Map<String, Value>, keyword: &str| own.get(keyword).and_then(Value::as_f64);
    let least = bound(own, "minimum")
        .map(f64::ceil)
        .into_iter()
        .chain(bound(own, "exclusiveMinimum").map(|bound| bound.floor() + 1.0));
    let most = bound(own, "maximum")
        .map(f64::floor)
        .into_iter()
        .chain(bound(own, "exclusiveMaximum").map(|bound| bound.ceil() - 1.0));
    let least = least.reduce(f64::max).filter(|least| *least <= LARGEST);
    let most = most.reduce(f64::min).filter(|most| *most >= -LARGEST);
    for (bound, keyword, exclusive) in [
        (least, "minimum", "exclusiveMinimum"),
        (most, "maximum", "exclusiveMaximum"),
    ] {
        let Some(bound) = bound else { continue };
        own.shift_remove(exclusive);
        #[expect(clippy::cast_possible_truncation, reason = "the value is clamped")]
        let whole = bound.clamp(-LARGEST, LARGEST) as i64;
        own.insert(keyword.to_owned(), Value::Number(Number::from(whole)));
    }
}
