//! Simplifies schemas that are too complex for a grammar, if the client does not require a
//! guarantee (`strict`). The first attempts leave out a single keyword, to find the one that makes
//! the schema too complex; the next one leaves out every keyword that only bounds values; the last
//! one allows any value.
//!
//! Pure. `constrain.rs` compiles the schemas and knows whether that succeeds.

use loggia_wire::openai::{ChatCompletionRequest, ResponseFormat};
use serde_json::{Map, Value, json};

/// The keywords that bound a value and do not describe its structure, in the order in which they
/// are left out. A limit on characters or items is the most likely to make a grammar too large, so
/// these come first. A format tells the most about a value, so it comes last.
const BOUNDS: [&str; 14] = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "patternProperties",
    "pattern",
    "format",
];

/// The maximum number of keywords that are left out one at a time, to find the one at fault.
const MOST_TRIED: usize = 24;

/// A simplified schema.
#[derive(Debug, PartialEq)]
pub(crate) struct Simpler {
    pub(crate) schema: Value,
    /// The names of the left-out parts, as they follow the field's name in `x-loggia-ignored`:
    /// `#/a/b/keyword`, or empty if the whole schema was left out.
    pub(crate) without: Vec<String>,
}

/// Returns increasingly simple forms of a schema.
pub(crate) fn simpler(schema: &Value) -> impl Iterator<Item = Simpler> + use<> {
    let mut bounds = Vec::new();
    collect(schema, &mut Vec::new(), &mut bounds);
    bounds.sort_by_key(|(_, keyword)| BOUNDS.iter().position(|bound| bound == keyword));
    let one_by_one: Vec<Simpler> = bounds
        .iter()
        .take(MOST_TRIED)
        .map(|bound| without(schema, std::slice::from_ref(bound)))
        .collect();
    let all = (bounds.len() > 1).then(|| without(schema, &bounds));
    let any = Simpler {
        schema: any_value(schema),
        without: vec![String::new()],
    };
    let any = (any.schema != *schema).then_some(any);
    one_by_one.into_iter().chain(all).chain(any)
}

/// Finds the schema in the field of the request that an error names. Also returns whether the
/// schema is a guarantee (`strict`).
pub(crate) fn schema_of<'a>(
    request: &'a mut ChatCompletionRequest,
    param: &str,
) -> Option<(&'a mut Option<Value>, bool)> {
    if let Some(rest) = param.strip_prefix("tools[") {
        let index: usize = rest.split_once(']')?.0.parse().ok()?;
        let function = request.tools.as_mut()?.get_mut(index)?.function.as_mut()?;
        let is_strict = function.strict == Some(true);
        return Some((&mut function.parameters, is_strict));
    }
    match &mut request.response_format {
        Some(ResponseFormat::JsonSchema(format)) if param.starts_with("response_format") => {
            let is_strict = format.strict == Some(true);
            Some((&mut format.schema, is_strict))
        }
        _ => None,
    }
}

/// The path to a schema, and one of its keywords.
type Bound = (Vec<String>, &'static str);

fn collect(schema: &Value, place: &mut Vec<String>, found: &mut Vec<Bound>) {
    let Value::Object(fields) = schema else {
        return;
    };
    for (keyword, value) in fields {
        if let Some(bound) = BOUNDS.iter().find(|bound| *bound == keyword) {
            found.push((place.clone(), bound));
        }
        place.push(keyword.clone());
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                for (name, inner) in named {
                    place.push(name.clone());
                    collect(inner, place, found);
                    place.pop();
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(all)) => {
                for (index, inner) in all.iter().enumerate() {
                    place.push(index.to_string());
                    collect(inner, place, found);
                    place.pop();
                }
            }
            ("items" | "additionalItems" | "additionalProperties", inner) => {
                collect(inner, place, found);
            }
            _ => {}
        }
        place.pop();
    }
}

fn without(schema: &Value, bounds: &[Bound]) -> Simpler {
    let mut schema = schema.clone();
    let mut names = Vec::new();
    for (place, keyword) in bounds {
        let inner = place
            .iter()
            .try_fold(&mut schema, |inner, step| match inner {
                Value::Object(fields) => fields.get_mut(step),
                Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
                _ => None,
            });
        if let Some(Value::Object(fields)) = inner {
            fields.shift_remove(*keyword);
        }
        let steps: String = place.iter().flat_map(|step| ["/", step]).collect();
        names.push(format!("#{steps}/{keyword}"));
    }
    Simpler {
        schema,
        without: names,
    }
}

/// A schema that allows any value of the type of `schema`.
fn any_value(schema: &Value) -> Value {
    let kind = schema.get("type").filter(|kind| kind.is_string());
    match kind {
        Some(kind) => json!({"type": kind}),
        None => Value::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_loses_one_bound_at_a_time_then_all_of_them_then_its_shape() {
        let schema = json!({"type": "object", "properties": {
            "link": {"type": "string", "format": "uri", "minLength": 2500},
            "minLength": {"type": "array", "items": {"pattern": "^a"}}
        }});
        let forms: Vec<Simpler> = simpler(&schema).collect();
        let names: Vec<&[String]> = forms.iter().map(|form| &form.without[..]).collect();
        let (length, pattern, format) = (
            "#/properties/link/minLength",
            "#/properties/minLength/items/pattern",
            "#/properties/link/format",
        );
        let expected: [&[&str]; 5] = [
            &[length],
            &[pattern],
            &[format],
            &[length, pattern, format],
            &[""],
        ];
        assert_eq!(names, expected);
        assert_eq!(
            forms[0].schema["properties"]["link"],
            json!({"type": "string", "format": "uri"})
        );
        assert_eq!(
            forms[3].schema,
            json!({"type": "object", "properties": {
                "link": {"type": "string"}, "minLength": {"type": "array", "items": {}}}})
        );
        assert_eq!(forms[4].schema, json!({"type": "object"}));
    }

    #[test]
    fn what_bounds_nothing_has_only_one_simpler_form() {
        let names = |schema: &Value| simpler(schema).map(|form| form.without).collect::<Vec<_>>();
        assert_eq!(names(&json!({"enum": ["a", "b"]})), [[String::new()]]);
        assert_eq!(names(&json!({"type": "object"})), Vec::<Vec<String>>::new());
        let many = json!({"anyOf": vec![json!({"minLength": 1}); 100]});
        assert_eq!(names(&many).len(), MOST_TRIED + 2);
    }
}
