//! llama.cpp's converter from schemas to grammars, which Ollama uses too. It handles a schema by
//! the first keyword that it finds, and silently ignores the others.
//!
//! The facts come from `common/json-schema-to-grammar.cpp` and were checked against the grammars of
//! build 11549. Where versions differ, this module states only what holds for all of them.

use serde_json::{Map, Value};

use super::disjoint::{are_apart, resolved};
use super::keywords::types_of;
use super::pattern::{MOST_TIMES, is_held};

/// The string formats that llama.cpp's converter supports.
const FORMATS: [&str; 10] = [
    "date",
    "time",
    "date-time",
    "uuid",
    "uuid1",
    "uuid2",
    "uuid3",
    "uuid4",
    "uuid5",
    "uuid-string",
];

/// The largest number that the converter supports. It writes no integers with more digits.
const LARGEST: f64 = 999_999_999_999_999.0;

/// Returns the first keyword that the converter ignores.
pub(super) fn passed_over<'a>(fields: &'a Map<String, Value>, root: &Value) -> Option<&'a String> {
    let form = SchemaForm::of(fields);
    fields
        .keys()
        .find(|keyword| !form.holds(keyword, fields, root))
}

/// How the converter handles a schema.
enum SchemaForm<'a> {
    Reference,
    Alternatives(&'static str),
    Values(Vec<&'a Value>),
    /// By type: each type as if it were the only one.
    Types(Vec<Option<&'a str>>),
}

impl<'a> SchemaForm<'a> {
    fn of(fields: &'a Map<String, Value>) -> Self {
        let chooser = ["oneOf", "anyOf"]
            .into_iter()
            .find(|keyword| fields.contains_key(*keyword));
        match (
            fields.get("$ref"),
            chooser,
            fields.get("const"),
            fields.get("enum"),
        ) {
            (Some(_), ..) => Self::Reference,
            (None, Some(chooser), ..) => Self::Alternatives(chooser),
            (None, None, Some(value), _) => Self::Values(vec![value]),
            (None, None, None, Some(Value::Array(values))) => Self::Values(values.iter().collect()),
            _ => Self::Types(types(fields)),
        }
    }

    fn holds(&self, keyword: &str, fields: &Map<String, Value>, root: &Value) -> bool {
        if matches!(keyword, "$defs" | "definitions") {
            return true;
        }
        let said = types(fields);
        let is_among = |types: &[&str]| types.iter().any(|one| said.contains(&Some(*one)));
        match self {
            Self::Reference => keyword == "$ref" && refers(fields, root),
            Self::Alternatives(chooser) => match (keyword, fields.get(*chooser)) {
                ("oneOf", Some(Value::Array(all))) => {
                    all.iter().all(Value::is_object) && are_apart(all, root)
                }
                ("anyOf", Some(Value::Array(all))) => {
                    *chooser == "anyOf" && all.iter().all(Value::is_object)
                }
                ("type", Some(Value::Array(all))) => {
                    all.iter().all(|one| is_narrower(one, &said, root))
                }
                _ => false,
            },
            Self::Values(values) => match keyword {
                "const" => true,
                "enum" => !fields.contains_key("const") || among(fields.get("enum"), values),
                "type" => values.iter().all(|value| is_among(types_of(value))),
                _ => false,
            },
            Self::Types(types) => {
                // A keyword that applies to none of the types has no effect.
                let mut concerned = types.iter().filter(|one| concerns(keyword, **one));
                concerned.all(|one| holds_for(*one, keyword, fields, root))
            }
        }
    }
}

fn types(fields: &Map<String, Value>) -> Vec<Option<&str>> {
    match fields.get("type") {
        Some(Value::Array(several)) => several.iter().map(Value::as_str).collect(),
        one => vec![one.and_then(Value::as_str)],
    }
}

/// Returns whether an alternative allows only these types.
fn is_narrower(alternative: &Value, said: &[Option<&str>], root: &Value) -> bool {
    let Some(fields) = resolved(alternative, root) else {
        return false;
    };
    let is_said =
        |one: &str| said.contains(&Some(one)) || one == "integer" && said.contains(&Some("number"));
    match (fields.get("const"), fields.get("type")) {
        (Some(value), _) => types_of(value).iter().any(|one| is_said(one)),
        (None, Some(_)) => types(fields)
            .into_iter()
            .all(|one| one.is_some_and(is_said)),
        _ => false,
    }
}

fn among(all: Option<&Value>, values: &[&Value]) -> bool {
    let all = all.and_then(Value::as_array);
    all.is_some_and(|all| values.iter().all(|value| all.contains(value)))
}

/// Returns whether the schema is a reference within the root schema, without escape sequences.
fn refers(fields: &Map<String, Value>, root: &Value) -> bool {
    let reference = fields.get("$ref").and_then(Value::as_str);
    reference.is_some_and(|reference| is_followed(reference, root))
}

/// Returns whether the converter follows this reference.
pub(super) fn is_followed(reference: &str, root: &Value) -> bool {
    reference.strip_prefix('#').is_some_and(|place| {
        place.len() > 1 && !place.contains(['~', '%']) && root.pointer(place).is_some()
    })
}

/// Returns whether a keyword applies to this type.
fn concerns(keyword: &str, one: Option<&str>) -> bool {
    let Some(one) = one else { return true };
    match keyword {
        "properties"
        | "required"
        | "additionalProperties"
        | "patternProperties"
        | "minProperties"
        | "maxProperties"
        | "propertyNames"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedProperties" => one == "object",
        "items" | "prefixItems" | "additionalItems" | "minItems" | "maxItems" | "uniqueItems"
        | "contains" | "minContains" | "maxContains" | "unevaluatedItems" => one == "array",
        // Among formats of numbers, `int32`, `double` and similar are annotations.
        "pattern" | "format" | "minLength" | "maxLength" | "contentEncoding"
        | "contentMediaType" => one == "string",
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            matches!(one, "integer" | "number")
        }
        _ => true,
    }
}

/// Returns whether the converter enforces a keyword for values of one type, or of any if none is
/// given.
fn holds_for(one: Option<&str>, keyword: &str, fields: &Map<String, Value>, root: &Value) -> bool {
    let is = |name: &str| one.is_none_or(|one| one == name);
    let has = |keyword: &str| fields.contains_key(keyword);
    let closes = fields
        .get("additionalProperties")
        .is_some_and(|others| others != &Value::Bool(true));
    if keyword == "type" {
        return !(has("allOf") && is("string") && one.is_some());
    }
    if is("object") && (has("properties") || closes) {
        return match keyword {
            "properties" => fields.get("properties").is_some_and(are_objects),
            "additionalProperties" => true,
            "required" => are_named(fields),
            _ => false,
        };
    }
    if is("object") && has("allOf") {
        return keyword == "allOf" && are_mergeable(fields.get("allOf"), root);
    }
    if is("array") && (has("items") || has("prefixItems")) {
        return holds_for_array(keyword, fields);
    }
    if is("string") && has("pattern") {
        return keyword == "pattern"
            && fields
                .get("pattern")
                .and_then(Value::as_str)
                .is_some_and(is_held);
    }
    if is("string") && is_known_format(fields.get("format")) {
        return keyword == "format";
    }
    match one {
        Some("string") => {
            matches!(keyword, "minLength" | "maxLength") && is_count(fields.get(keyword))
        }
        Some("integer") => holds_for_integer(keyword, fields),
        Some("object") => keyword == "additionalProperties",
        _ => false,
    }
}

/// The converter does not support the schemas `true` and `false`.
fn are_objects(named: &Value) -> bool {
    named
        .as_object()
        .is_some_and(|named| named.values().all(Value::is_object))
}

fn is_known_format(format: Option<&Value>) -> bool {
    format
        .and_then(Value::as_str)
        .is_some_and(|format| FORMATS.contains(&format))
}

fn is_count(value: Option<&Value>) -> bool {
    value.and_then(Value::as_f64).is_some_and(|count| {
        #[expect(clippy::cast_precision_loss, reason = "the number is small")]
        let most = MOST_TIMES as f64;
        (0.0..=most).contains(&count)
    })
}

/// Returns whether all required names are among the properties. It ignores others.
fn are_named(fields: &Map<String, Value>) -> bool {
    let named = fields.get("properties").and_then(Value::as_object);
    let is_named = |name: &Value| {
        name.as_str()
            .is_some_and(|name| named.is_some_and(|named| named.contains_key(name)))
    };
    fields
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().all(is_named))
}

/// Returns whether these are objects that can be merged, with all properties required. It ignores
/// everything else in `allOf`.
fn are_mergeable(all: Option<&Value>, root: &Value) -> bool {
    let is_plain = |one: &Value| {
        resolved(one, root)
            .is_some_and(|fields| fields.get("properties").is_some_and(Value::is_object))
    };
    all.and_then(Value::as_array)
        .is_some_and(|all| all.iter().all(is_plain))
}

/// `items` takes precedence over `prefixItems`. A list of items, or a single keyword, describes the
/// complete array.
fn holds_for_array(keyword: &str, fields: &Map<String, Value>) -> bool {
    let exactly = match (fields.get("items"), fields.get("prefixItems")) {
        (Some(Value::Array(items)), _) | (None, Some(Value::Array(items))) => Some(items.len()),
        _ => None,
    };
    let count = fields
        .get(keyword)
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok());
    match (keyword, exactly) {
        ("items", _) => fields.get("items").is_some_and(|items| !items.is_boolean()),
        ("prefixItems", _) => !fields.contains_key("items"),
        ("minItems", Some(exactly)) => count.is_some_and(|least| least <= exactly),
        ("maxItems", Some(exactly)) => count.is_some_and(|most| most >= exactly),
        ("minItems" | "maxItems", None) => is_count(fields.get(keyword)),
        _ => false,
    }
}

/// Bounds must be integers. Of two bounds for one side, the converter uses one.
fn holds_for_integer(keyword: &str, fields: &Map<String, Value>) -> bool {
    let outdone = match keyword {
        "exclusiveMinimum" => fields.contains_key("minimum"),
        "exclusiveMaximum" => fields.contains_key("maximum"),
        "minimum" | "maximum" => false,
        _ => return false,
    };
    let bound = fields.get(keyword).and_then(Value::as_f64);
    !outdone && bound.is_some_and(|bound| bound.fract() == 0.0 && bound.abs() <= LARGEST)
}
