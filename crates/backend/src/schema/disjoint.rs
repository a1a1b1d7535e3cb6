//! Decides whether schemas are disjoint: no value matches two of them, so that `oneOf` equals
//! `anyOf`.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::keywords::{TYPES, types_of};
use super::plain::inferred_type;
use crate::references::find;

/// The maximum depth of the comparison. Deeper parts count as overlapping.
const DEPTH: u32 = 8;

/// The maximum number of compared pairs, nested ones included. Further pairs count as overlapping,
/// because a client's schema must not cost seconds.
const MOST_PAIRS: u32 = 10_000;

/// Returns whether the schemas are pairwise disjoint. `root` is the target of references.
pub(super) fn are_apart(schemas: &[Value], root: &Value) -> bool {
    let comparison = Comparison {
        root,
        pairs_left: Cell::new(MOST_PAIRS),
    };
    let fields: Option<Vec<_>> = schemas
        .iter()
        .map(|schema| resolved(schema, root))
        .collect();
    let Some(fields) = fields else { return false };
    let mut pairs = fields
        .iter()
        .enumerate()
        .flat_map(|(index, one)| fields[..index].iter().map(move |other| (*one, *other)));
    pairs.all(|(one, other)| comparison.is_apart(one, other, DEPTH))
}

struct Comparison<'a> {
    root: &'a Value,
    pairs_left: Cell<u32>,
}

impl Comparison<'_> {
    fn is_apart(&self, one: &Map<String, Value>, other: &Map<String, Value>, depth: u32) -> bool {
        let (Some(depth), Some(left)) =
            (depth.checked_sub(1), self.pairs_left.get().checked_sub(1))
        else {
            return false;
        };
        self.pairs_left.set(left);
        for (chooser, beside) in [(one, other), (other, one)] {
            if let Some(Value::Array(alternatives)) =
                chooser.get("anyOf").or_else(|| chooser.get("oneOf"))
            {
                return alternatives.iter().all(|schema| {
                    resolved(schema, self.root)
                        .is_some_and(|alternative| self.is_apart(alternative, beside, depth))
                });
            }
        }
        if let (Some(values), Some(others)) = (values(one), values(other)) {
            return self.may_compare(values.len() * others.len())
                && !values.iter().any(|value| others.contains(value));
        }
        let (types, others) = (types(one), types(other));
        if !types.iter().any(|one| others.contains(one)) {
            return true;
        }
        (types == ["object"] || others == ["object"]) && self.tells_apart(one, other, depth)
    }

    /// Takes `pairs` from the remaining comparisons. Returns false if too few are left.
    fn may_compare(&self, pairs: usize) -> bool {
        let left = u32::try_from(pairs)
            .ok()
            .and_then(|pairs| self.pairs_left.get().checked_sub(pairs));
        self.pairs_left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Returns whether a property that both require can never be equal.
    fn tells_apart(
        &self,
        one: &Map<String, Value>,
        other: &Map<String, Value>,
        depth: u32,
    ) -> bool {
        let mut told_apart =
            required(one).filter(|name| required(other).any(|required| required == *name));
        told_apart.any(|name| {
            let schemas = property(one, name, self.root).zip(property(other, name, self.root));
            schemas.is_some_and(|(one, other)| self.is_apart(one, other, depth))
        })
    }
}

fn required(fields: &Map<String, Value>) -> impl Iterator<Item = &str> {
    // Properties that distinguish alternatives usually come first.
    fields
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .take(100)
}

fn property<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    root: &'a Value,
) -> Option<&'a Map<String, Value>> {
    resolved(fields.get("properties")?.get(name)?, root)
}

/// Follows references to a schema. `None` if the target does not exist, is circular or is not an
/// object.
pub(super) fn resolved<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let mut schema = schema.as_object()?;
    for _ in 0..DEPTH {
        let Some(reference) = schema.get("$ref") else {
            return Some(schema);
        };
        schema = find(root, reference.as_str()?)?.as_object()?;
    }
    None
}

/// Returns all allowed values, if the schema lists them.
fn values(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// Returns the allowed types.
fn types(fields: &Map<String, Value>) -> Vec<&str> {
    if let Some(values) = values(fields) {
        return values.into_iter().flat_map(types_of).copied().collect();
    }
    let said: Vec<&str> = match fields.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return inferred_type(fields).map_or_else(|| TYPES.to_vec(), |one| vec![one]),
    };
    // An integer is a number too.
    let numbers = if said.contains(&"number") {
        vec!["integer"]
    } else {
        Vec::new()
    };
    said.into_iter().chain(numbers).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_apart_by_type_by_values_and_by_what_tells_objects_apart() {
        let root = json!({"$defs": {
            "cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "n": {"type": "integer"}}, "required": ["kind"]},
            "dog": {"type": "object", "properties": {"kind": {"enum": ["dog", "hound"]}}, "required": ["kind"]},
            "any": {"type": "object", "properties": {"kind": {"const": "cat"}}},
            "loop": {"$ref": "#/$defs/loop"},
        }});
        let cat = || json!({"$ref": "#/$defs/cat"});
        for apart in [
            json!([{"type": "string"}, {"type": ["integer", "null"]}]),
            json!([{"const": 1}, {"enum": [2, "1"]}]),
            json!([cat(), {"$ref": "#/$defs/dog"}]),
            json!([cat(), {"type": "null"}]),
            json!([{"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "array"}]),
        ] {
            assert!(are_apart(apart.as_array().unwrap(), &root), "{apart}");
        }
        for overlapping in [
            json!([{"type": "integer"}, {"type": "number"}]),
            json!([{"enum": [1, 2]}, {"const": 2}]),
            json!([{"const": 1}, {"type": "number"}]),
            json!([cat(), cat()]),
            json!([{"$ref": "#/$defs/any"}, {"$ref": "#/$defs/dog"}]),
            json!([{"$ref": "#/$defs/loop"}, {"type": "null"}]),
            json!([{}, {"type": "null"}]),
            json!([true, {"type": "null"}]),
            json!([{"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "null"}]),
        ] {
            assert!(
                !are_apart(overlapping.as_array().unwrap(), &root),
                "{overlapping}"
            );
        }
    }

    #[test]
    fn what_would_take_long_to_compare_may_overlap() {
        let many: Vec<Value> = (0..2000).map(|n| json!({"const": n})).collect();
        assert!(are_apart(&many[..100], &Value::Null) && !are_apart(&many, &Value::Null));
        let mut nested = json!({"type": "null"});
        for _ in 0..5 {
            nested = json!({"anyOf": vec![nested; 7]});
        }
        assert!(!are_apart(&[nested.clone(), nested], &Value::Null));
    }
}
