//! Expands references in JSON schemas: replaces each `$ref` within the schema by its target.
//!
//! For engines and templates that do not support `$ref`. The expansion of a recursive schema never
//! ends, and parts that refer to each other several times grow exponentially. So there are limits,
//! and references beyond them stay.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The approximate maximum number of bytes written for references: the maximum size of a schema.
const MOST_WRITTEN: usize = 256 << 10;

/// The maximum depth of references within references.
const DEEPEST: usize = 16;

/// A schema with expanded references.
#[derive(Debug, PartialEq)]
pub struct Inlined {
    /// The schema. It keeps its definitions only if some references are left.
    pub schema: Value,
    /// The references that are left, as JSON pointers: recursive ones, those without a target, and
    /// those beyond the limits.
    pub left: Vec<String>,
}

/// Expands the references of a schema. Keywords beside a reference are kept: a description there is
/// more specific than that of the definition.
pub fn inlined(root: &Value) -> Inlined {
    let mut writer = Writer {
        root,
        open: Vec::new(),
        room: MOST_WRITTEN,
        sizes: HashMap::new(),
        left: Vec::new(),
    };
    let mut schema = writer.write(root, &mut String::new(), true);
    if writer.left.is_empty()
        && let Value::Object(fields) = &mut schema
    {
        fields.shift_remove("$defs");
        fields.shift_remove("definitions");
    }
    Inlined {
        schema,
        left: writer.left,
    }
}

struct Writer<'a> {
    root: &'a Value,
    /// The references that are being expanded.
    open: Vec<&'a str>,
    /// The number of bytes that may still be written for references.
    room: usize,
    /// The sizes of the targets of references.
    sizes: HashMap<&'a str, usize>,
    left: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Writes a value. `place` is its path in the output. `is_schema` is false for an object whose
    /// keys the client chose and whose values are schemas.
    fn write(&mut self, value: &'a Value, place: &mut String, is_schema: bool) -> Value {
        match value {
            Value::Object(fields) => self.object(fields, place, is_schema),
            Value::Array(items) => {
                let written = items.iter().enumerate().map(|(index, item)| {
                    self.within(&index.to_string(), place, |this, place| {
                        this.write(item, place, true)
                    })
                });
                Value::Array(written.collect())
            }
            value => value.clone(),
        }
    }

    fn object(
        &mut self,
        fields: &'a Map<String, Value>,
        place: &mut String,
        is_schema: bool,
    ) -> Value {
        let reference = if is_schema {
            fields.get("$ref").and_then(Value::as_str)
        } else {
            None
        };
        let Some(reference) = reference else {
            return Value::Object(self.fields(fields, place, is_schema));
        };
        let Some(target) = self.target(reference) else {
            self.left.push(place.clone());
            let mut shown = self.shape(reference);
            shown.extend(self.beside(fields, place));
            shown.insert("$ref".to_owned(), reference.into());
            return Value::Object(shown);
        };
        self.open.push(reference);
        let mut written = match self.write(target, place, true) {
            Value::Object(written) => written,
            // The target `true` allows anything, so only the keywords beside the reference matter.
            _ => Map::new(),
        };
        self.open.pop();
        written.extend(self.beside(fields, place));
        Value::Object(written)
    }

    fn fields(
        &mut self,
        fields: &'a Map<String, Value>,
        place: &mut String,
        is_schema: bool,
    ) -> Map<String, Value> {
        let written = fields.iter().map(|(name, value)| {
            let written = match name.as_str() {
                // The first of these keywords contain values, not schemas. The others contain
                // definitions, which are written where they are used.
                "enum" | "const" | "default" | "examples" | "example" | "required" | "$defs"
                | "definitions"
                    if is_schema =>
                {
                    value.clone()
                }
                "properties" | "patternProperties" | "dependentSchemas" if is_schema => {
                    self.within(name, place, |this, place| this.write(value, place, false))
                }
                _ => self.within(name, place, |this, place| this.write(value, place, true)),
            };
            (name.clone(), written)
        });
        written.collect()
    }

    /// Returns the keywords beside a reference.
    fn beside(&mut self, fields: &'a Map<String, Value>, place: &mut String) -> Map<String, Value> {
        let mut fields = self.fields(fields, place, true);
        fields.shift_remove("$ref");
        fields
    }

    fn within<T>(
        &mut self,
        name: &str,
        place: &mut String,
        write: impl FnOnce(&mut Self, &mut String) -> T,
    ) -> T {
        let before = place.len();
        place.push('/');
        place.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let written = write(self, place);
        place.truncate(before);
        written
    }

    /// Returns the target of a reference if it is to be expanded.
    fn target(&mut self, reference: &'a str) -> Option<&'a Value> {
        if self.open.len() >= DEEPEST || self.open.contains(&reference) {
            return None;
        }
        let target = find(self.root, reference)
            .filter(|target| target.is_object() || target.is_boolean())?;
        let size = *self.sizes.entry(reference).or_insert_with(|| size(target));
        self.room = self.room.checked_sub(size)?;
        Some(target)
    }

    /// Returns a one-line summary of a target that is not expanded.
    fn shape(&self, reference: &str) -> Map<String, Value> {
        let target = find(self.root, reference).and_then(Value::as_object);
        let kept = ["type", "description"]
            .into_iter()
            .filter_map(|name| Some((name, target?.get(name)?)));
        kept.filter(|(_, value)| !value.is_object())
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }
}

/// Returns the approximate size of a value as JSON, in bytes.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            2 + fields
                .iter()
                .map(|(name, value)| name.len() + 4 + size(value))
                .sum::<usize>()
        }
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::String(text) => 2 + text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 5,
    }
}

/// Adapts a schema that is moved into another: its references to itself get the new path, such as
/// `#/properties/arguments`. Text that only looks like a reference (in `const`, `enum`, `default`,
/// `examples`, or a property called `$ref`) stays unchanged.
pub fn moved(schema: Value, to: &str) -> Value {
    let inside = |(keyword, value): (String, Value)| {
        let value = match (keyword.as_str(), value) {
            ("$ref", Value::String(at)) => match at.strip_prefix('#') {
                Some(rest) => [to, rest].concat().into(),
                None => at.into(),
            },
            ("const" | "enum" | "default" | "examples" | "example", value) => value,
            (
                "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions",
                Value::Object(named),
            ) => named
                .into_iter()
                .map(|(name, schema)| (name, moved(schema, to)))
                .collect(),
            (_, value) => moved(value, to),
        };
        (keyword, value)
    };
    match schema {
        Value::Object(fields) => fields.into_iter().map(inside).collect(),
        Value::Array(all) => all.into_iter().map(|one| moved(one, to)).collect(),
        other => other,
    }
}

/// Returns the target of a reference within a schema.
pub(crate) fn find<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    root.pointer(pointer)
        .or_else(|| root.pointer(&percent_decode_str(pointer).decode_utf8().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_moves_are_references_and_nothing_that_only_looks_like_one() {
        let like = json!({"$ref": "#/$defs/a"});
        let schema = json!({
            "properties": {
                "$ref": {"$ref": "#/$defs/a"},
                "const": {"$ref": "#"},
                "elsewhere": {"$ref": "https://example.com/#/a"},
                "value": {"const": like, "default": like, "examples": [like], "enum": [like]},
            },
            "items": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"type": "string"}, "enum": {"$ref": "#/$defs/a"}},
        });
        let there = json!({"$ref": "#/properties/x/$defs/a"});
        assert_eq!(
            moved(schema, "#/properties/x"),
            json!({
                "properties": {
                    "$ref": there,
                    "const": {"$ref": "#/properties/x"},
                    "elsewhere": {"$ref": "https://example.com/#/a"},
                    "value": {"const": like, "default": like, "examples": [like], "enum": [like]},
                },
                "items": [there],
                "$defs": {"a": {"type": "string"}, "enum": there},
            })
        );
    }

    #[test]
    fn a_reference_is_replaced_by_what_it_leads_to_and_what_stands_beside_it_stays() {
        let guest = json!({"type": "object", "description": "A guest.", "properties": {"name": {"$ref": "#/$defs/Name"}}});
        let schema = json!({
            "type": "object",
            "properties": {
                "guest": {"$ref": "#/$defs/Guest", "description": "Who comes."},
                "all": {"type": "array", "items": {"$ref": "#/$defs/Name"}},
                "either": {"anyOf": [{"$ref": "#/$defs/Name"}, {"type": "null"}]},
                "odd": {"$ref": "#/$defs/a~1b%20c"},
                "$ref": {"type": "string"}
            },
            "$defs": {"Guest": guest, "Name": {"type": "string"}, "a/b c": true}
        });
        let inlined = inlined(&schema);
        assert_eq!(inlined.left, Vec::<String>::new());
        let properties = json!({
            "guest": {"type": "object", "description": "Who comes.", "properties": {"name": {"type": "string"}}},
            "all": {"type": "array", "items": {"type": "string"}},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "odd": {},
            "$ref": {"type": "string"}
        });
        assert_eq!(
            inlined.schema,
            json!({"type": "object", "properties": properties})
        );
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_written_out_once_and_named() {
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "v": {"type": "integer"}}});
        let inlined = inlined(
            &json!({"type": "object", "properties": {"list": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}),
        );
        assert_eq!(inlined.left, ["/properties/list/properties/next"]);
        let list = &inlined.schema["properties"]["list"];
        assert_eq!(list["properties"]["v"], json!({"type": "integer"}));
        assert_eq!(
            list["properties"]["next"],
            json!({"type": "object", "$ref": "#/$defs/Node"})
        );
        assert_eq!(
            inlined.schema["$defs"]["Node"], node,
            "a reader can still follow it"
        );
        let whole = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
        assert_eq!(
            super::inlined(&whole).left,
            ["/properties/child/properties/child"]
        );
        for circle in [
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ] {
            assert_eq!(super::inlined(&circle).left.len(), 1, "{circle}");
        }
    }

    #[test]
    fn a_reference_that_leads_nowhere_stays_and_is_named() {
        for reference in [
            "#/$defs/none",
            "https://example.com/schema",
            "other.json#/a",
            "#name",
            "#/properties/x/description",
        ] {
            let schema = json!({"properties": {"x": {"$ref": reference, "description": "x"}}});
            let inlined = inlined(&schema);
            assert_eq!(inlined.left, ["/properties/x"], "{reference}");
            assert_eq!(
                inlined.schema,
                json!({"properties": {"x": {"description": "x", "$ref": reference}}})
            );
        }
    }

    #[test]
    fn what_grows_without_measure_is_bounded() {
        let mut definitions = Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            definitions.insert(
                format!("d{level}"),
                json!({"type": "object", "properties": {"a": next, "b": next}}),
            );
        }
        definitions.insert("d40".to_owned(), json!({"type": "string"}));
        let inlined = inlined(&json!({"$ref": "#/$defs/d0", "$defs": definitions}));
        assert!(!inlined.left.is_empty());
        assert!(
            inlined.schema.to_string().len() < 2 * MOST_WRITTEN,
            "{}",
            inlined.schema.to_string().len()
        );
        let long = json!({"enum": ["x".repeat(100_000)]});
        let all: Map<_, _> = (0..100)
            .map(|n| (format!("p{n}"), json!({"$ref": "#/$defs/long"})))
            .collect();
        let inlined = super::inlined(&json!({"properties": all, "$defs": {"long": long}}));
        assert_eq!(inlined.left.len(), 98);
    }
}
