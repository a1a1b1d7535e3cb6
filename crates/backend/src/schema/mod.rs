//! Converts JSON schemas to the form that an engine can enforce: normalised, without ignored
//! keywords.
//!
//! Reading order: [`fitted`] and [`faults`] (this file), `plain.rs` (the normal form of one
//! schema), `keywords.rs` (the keywords of the specification), `llama_cpp.rs` (with `pattern.rs`
//! and `disjoint.rs`) and `llguidance.rs` (the keywords that each engine enforces), [`arguments()`]
//! (the schema of a function's arguments), `readable.rs` (schemas that llama-server would refuse).
//! All functions are pure.

mod arguments;
mod disjoint;
mod keywords;
mod llama_cpp;
mod llguidance;
mod pattern;
mod plain;
mod readable;

use serde_json::{Map, Value, json};

pub use arguments::arguments;
pub(crate) use readable::readable;

use crate::SchemaEngine;

/// A keyword of a schema that cannot be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// The path of the keyword in the client's schema: names and indexes.
    pub place: Vec<String>,
    /// The keyword.
    pub keyword: String,
    /// The problem.
    pub kind: SchemaFaultKind,
}

/// The problem of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaFaultKind {
    /// The engine ignores the keyword.
    Unenforced,
    /// JSON Schema does not allow this value of the keyword (`"properties": 7`).
    Malformed,
    /// No value can match the keyword together with a keyword beside it (`"minItems": 3` and
    /// `"maxItems": 2`).
    Impossible,
    /// The keyword is a reference within the schema whose target does not exist.
    LeadsNowhere,
}

/// Returns the schema for an engine: the normal form of the client's schema, without the keywords
/// in its [`faults`].
///
/// Titles, defaults and other annotations are dropped. Prompts should show the client's own schema.
pub fn fitted(schema: &Value, engine: SchemaEngine) -> Value {
    Fit::new(schema, engine).all(schema).0
}

/// Returns the keywords of a schema that an engine cannot enforce, in the order of the schema.
pub fn faults(schema: &Value, engine: SchemaEngine) -> Vec<SchemaFault> {
    Fit::new(schema, engine).all(schema).1
}

/// One pass over a schema. References are not followed, because their targets are within the schema
/// and visited there.
struct Fit<'a> {
    engine: SchemaEngine,
    /// The target of references.
    root: &'a Value,
    /// Whether to remove schemas that only wrap another. False if a reference leads through one.
    unwraps: bool,
    place: Vec<String>,
    faults: Vec<SchemaFault>,
}

impl<'a> Fit<'a> {
    fn new(root: &'a Value, engine: SchemaEngine) -> Self {
        Self {
            engine,
            root,
            unwraps: !plain::refers_through_wrappers(root),
            place: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn all(mut self, schema: &Value) -> (Value, Vec<SchemaFault>) {
        let fitted = self.one(schema);
        (fitted, self.faults)
    }

    fn one(&mut self, schema: &Value) -> Value {
        let depth = self.place.len();
        let (mut schema, mut is_nullable) = (schema, false);
        // A schema that only wraps another is replaced by it. Its definitions are kept.
        let mut around: Vec<(&String, &Value)> = Vec::new();
        while let Some((keyword, inner)) = schema
            .as_object()
            .filter(|_| self.unwraps)
            .and_then(plain::wrapped)
        {
            let fields = schema.as_object().into_iter().flatten();
            around.extend(
                fields.filter(|(keyword, _)| matches!(keyword.as_str(), "$defs" | "definitions")),
            );
            is_nullable |= plain::is_nullable(schema);
            self.place.extend([keyword.to_owned(), "0".to_owned()]);
            schema = inner;
        }
        let steps = self.place.split_off(depth);
        let definitions: Vec<(String, Value)> = around
            .into_iter()
            .map(|(keyword, named)| (keyword.clone(), self.within(keyword, named)))
            .collect();
        self.place.extend(steps);
        let mut fitted = match schema {
            Value::Object(fields) => self.object(fields, depth == 0),
            // An invalid schema is reported at its own path.
            other => other.clone(),
        };
        if is_nullable {
            fitted = plain::or_null(&fitted);
        }
        if let Value::Object(fields) = &mut fitted {
            fields.extend(definitions);
        }
        self.place.truncate(depth);
        fitted
    }

    fn object(&mut self, fields: &Map<String, Value>, is_root: bool) -> Value {
        let mut own = Map::new();
        for (keyword, value) in fields {
            let is_kept = matches!(keyword.as_str(), "$defs" | "definitions") && value.is_object();
            if !is_kept && !self.asserts(keyword, value, is_root) {
                continue;
            }
            match self.fault_by_itself(keyword, value) {
                Some(kind) => self.found(keyword, kind),
                None => drop(own.insert(keyword.clone(), value.clone())),
            }
        }
        self.drop_impossible(&mut own);
        plain::plain(&mut own, plain::is_nullable_by_type(fields), self.engine);
        self.drop_impossible(&mut own);
        if self.engine == SchemaEngine::Llguidance
            && !own.contains_key("anyOf")
            && self.is_any_of(&own)
        {
            // The converter does not follow references to find the property that distinguishes
            // alternatives.
            own = own
                .into_iter()
                .map(|(keyword, value)| {
                    if keyword == "oneOf" {
                        ("anyOf".to_owned(), value)
                    } else {
                        (keyword, value)
                    }
                })
                .collect();
        }
        self.drop_unenforced(&mut own);
        Value::Object(
            own.into_iter()
                .map(|(keyword, value)| (keyword.clone(), self.within(&keyword, &value)))
                .collect(),
        )
    }

    fn drop_impossible(&mut self, own: &mut Map<String, Value>) {
        while let Some(keyword) = impossible(own) {
            own.shift_remove(&keyword);
            self.found(&keyword, SchemaFaultKind::Impossible);
        }
    }

    /// Returns whether no value matches two alternatives of `oneOf`.
    fn is_any_of(&self, own: &Map<String, Value>) -> bool {
        own.get("oneOf")
            .and_then(Value::as_array)
            .is_some_and(|all| disjoint::are_apart(all, self.root))
    }

    fn asserts(&self, keyword: &str, value: &Value, is_root: bool) -> bool {
        // A new base URI would change the meaning of references inside.
        let is_renamed = keyword == "$id" && !is_root && self.engine == SchemaEngine::Llguidance;
        is_renamed && value.is_string() || keywords::asserts(keyword, value)
    }

    fn fault_by_itself(&self, keyword: &str, value: &Value) -> Option<SchemaFaultKind> {
        if !keywords::is_well_formed(keyword, value) {
            return Some(SchemaFaultKind::Malformed);
        }
        let pointer = value
            .as_str()
            .filter(|_| keyword == "$ref")
            .and_then(|reference| reference.strip_prefix('#'));
        let is_plain = |pointer: &&str| {
            pointer.is_empty() || pointer.starts_with('/') && !pointer.contains('%')
        };
        let target = pointer
            .filter(is_plain)
            .map(|pointer| self.root.pointer(pointer));
        target
            .is_some_and(|target| !target.is_some_and(keywords::is_schema))
            .then_some(SchemaFaultKind::LeadsNowhere)
    }

    fn drop_unenforced(&mut self, own: &mut Map<String, Value>) {
        loop {
            let lost = match self.engine {
                SchemaEngine::Own => None,
                SchemaEngine::LlamaCpp => llama_cpp::passed_over(own, self.root).cloned(),
                SchemaEngine::Llguidance => llguidance::passed_over(own, self.root).cloned(),
            };
            let Some(keyword) = lost else { return };
            let value = own.shift_remove(&keyword);
            self.found(&keyword, SchemaFaultKind::Unenforced);
            // "Exactly one" cannot be enforced, but "at least one" can.
            if keyword == "oneOf" && !own.contains_key("anyOf") {
                own.extend(value.map(|value| ("anyOf".to_owned(), value)));
            }
        }
    }

    fn found(&mut self, keyword: &str, kind: SchemaFaultKind) {
        let keyword = keyword.to_owned();
        self.faults.push(SchemaFault {
            place: self.place.clone(),
            keyword,
            kind,
        });
    }

    /// Returns the value of a keyword, with the schemas in it converted.
    fn within(&mut self, keyword: &str, value: &Value) -> Value {
        self.place.push(keyword.to_owned());
        let fitted = match (keyword, value) {
            (
                "properties" | "$defs" | "definitions" | "patternProperties",
                Value::Object(named),
            ) => named
                .iter()
                .map(|(name, schema)| (name.clone(), self.deeper(name, schema)))
                .collect(),
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, schema)| self.deeper(&index.to_string(), schema))
                .collect(),
            ("items" | "additionalItems" | "additionalProperties", schema) => self.one(schema),
            (_, value) => value.clone(),
        };
        self.place.pop();
        fitted
    }

    fn deeper(&mut self, step: &str, schema: &Value) -> Value {
        self.place.push(step.to_owned());
        let fitted = match schema {
            // The converter does not support booleans as schemas.
            Value::Bool(true) if self.engine == SchemaEngine::LlamaCpp => json!({}),
            Value::Bool(false) if self.engine == SchemaEngine::LlamaCpp => json!({"not": {}}),
            schema => self.one(schema),
        };
        self.place.pop();
        fitted
    }
}

/// Returns the greater of two bounds that allow no value.
fn impossible(fields: &Map<String, Value>) -> Option<String> {
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
        bound(least).zip(bound(most)).is_some_and(|(from, to)| {
            from > to || from >= to && (excludes(least) || excludes(most))
        })
    });
    crossed.map(|(_, most)| most.to_owned())
}

#[cfg(test)]
mod tests;
