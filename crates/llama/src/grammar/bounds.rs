//! Adds bounds to those parts of a schema that need none to be open-ended: integers, and strings
//! that are not free text. An answer that is valid for the narrower schema is also valid for the
//! original one. Without bounds, a small model often writes digits until its context is full.
//!
//! `ends` limits the parts that no keyword can bound: fractions, exponents, nesting. Texts and
//! lists may be as long as the model makes them.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Value, json};

/// The largest 64-bit integer that a double represents exactly: llguidance reads bounds as doubles.
const LARGEST: i64 = 9_223_372_036_854_774_784;

/// The maximum number of characters of a string, by format.
const FORMATS: [(&str, u64); 6] = [
    // The longest form has nanoseconds and an offset.
    ("date-time", 35),
    ("time", 24),
    ("duration", 40),
    // These lengths are from RFC 5321 and RFC 1035.
    ("email", 254),
    ("hostname", 253),
    // The limit that all browsers, proxies and search engines accept.
    ("uri", 2048),
];

/// The maximum number of characters of a string whose pattern matches no space.
const LONGEST_CODE: u64 = 1024;

/// Adds missing bounds to a schema and its subschemas.
pub(super) fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        return;
    };
    bound_integer(fields);
    bound_string(fields);
    for (keyword, value) in fields {
        match (keyword.as_str(), value) {
            (
                "properties" | "$defs" | "definitions" | "patternProperties",
                Value::Object(named),
            ) => {
                named.values_mut().for_each(bound);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => {
                items.iter_mut().for_each(bound);
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => bound(schema),
            _ => {}
        }
    }
}

fn has_type(fields: &Map<String, Value>, name: &str) -> bool {
    match fields.get("type") {
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        one => one.is_some_and(|one| one == name),
    }
}

/// Bounds integers, and multiples of a number. With bounds, a number cannot have an exponent; these
/// numbers never need one.
fn bound_integer(fields: &mut Map<String, Value>) {
    let is_integer = has_type(fields, "integer") && !has_type(fields, "number");
    if !(is_integer || has_type(fields, "number") && fields.contains_key("multipleOf")) {
        return;
    }
    let bound = |keywords: [&str; 2]| {
        keywords
            .iter()
            .find_map(|keyword| fields.get(*keyword)?.as_f64())
    };
    let (least, most) = (
        bound(["minimum", "exclusiveMinimum"]),
        bound(["maximum", "exclusiveMaximum"]),
    );
    #[expect(clippy::cast_precision_loss, reason = "a double holds it")]
    let largest = LARGEST as f64;
    if least.is_none() && most.is_none_or(|most| most > -largest) {
        fields.insert("minimum".to_owned(), json!(-LARGEST));
    }
    if most.is_none() && least.is_none_or(|least| least < largest) {
        fields.insert("maximum".to_owned(), json!(LARGEST));
    }
}

fn bound_string(fields: &mut Map<String, Value>) {
    if fields.contains_key("maxLength") {
        return;
    }
    let text = |keyword: &str| fields.get(keyword).and_then(Value::as_str);
    let of_format =
        text("format").and_then(|format| FORMATS.iter().find(|(name, _)| *name == format));
    let of_pattern = || {
        text("pattern")
            .filter(|pattern| !may_be_text(pattern))
            .map(|_| LONGEST_CODE)
    };
    let Some(most) = of_format.map(|(_, most)| *most).or_else(of_pattern) else {
        return;
    };
    let least = fields.get("minLength").and_then(Value::as_u64).unwrap_or(0);
    fields.insert("maxLength".to_owned(), json!(least.saturating_add(most)));
}

/// Whether a pattern may match a string with a space. Also `true` if that is unknown.
fn may_be_text(pattern: &str) -> bool {
    let Ok(hir) = regex_syntax::parse(pattern) else {
        return true;
    };
    let is_bounded = hir.properties().maximum_len().is_some();
    let looks = hir.properties();
    let is_anchored = looks.look_set_prefix().contains_anchor_haystack()
        && looks.look_set_suffix().contains_anchor_haystack();
    !is_anchored || !is_bounded && has_space(&hir)
}

fn has_space(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.contains(&b' '),
        HirKind::Class(Class::Unicode(class)) => class
            .iter()
            .any(|range| range.start() <= ' ' && ' ' <= range.end()),
        HirKind::Class(Class::Bytes(class)) => class
            .iter()
            .any(|range| range.start() <= b' ' && b' ' <= range.end()),
        HirKind::Repetition(repetition) => has_space(&repetition.sub),
        HirKind::Capture(capture) => has_space(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().any(has_space),
        HirKind::Empty | HirKind::Look(_) => false,
    }
}
