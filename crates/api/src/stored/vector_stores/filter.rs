//! Conditions on the attributes of files, for searches.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::ApiError;
use crate::admit::checks::{missing, not_among};

/// The maximum number of comparisons of a filter, and how deep they may be nested.
const MOST_COMPARISONS: usize = 100;
const DEEPEST: usize = 8;

/// A condition on the attributes of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AttributeFilter {
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare {
        key: String,
        comparison: Comparison,
        value: Value,
    },
}

/// How an attribute is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    In,
    NotIn,
}

const TYPES: &[&str] = &[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or",
];

impl AttributeFilter {
    /// Reads a filter at the path `param` of a request.
    pub(crate) fn read(param: &str, filter: &Value) -> Result<Self, ApiError> {
        let mut room = MOST_COMPARISONS;
        Self::read_inner(param, filter, DEEPEST, &mut room)
    }

    fn read_inner(
        param: &str,
        filter: &Value,
        depth: usize,
        room: &mut usize,
    ) -> Result<Self, ApiError> {
        let fields = FilterFields::of(param, filter)?;
        let kind = fields.text("type")?;
        if kind == "and" || kind == "or" {
            let inner = Self::read_list(&fields, depth, room)?;
            return Ok(if kind == "and" {
                Self::All(inner)
            } else {
                Self::Any(inner)
            });
        }
        let comparison = Comparison::named(kind);
        let comparison = comparison.ok_or_else(|| not_among(fields.path("type"), kind, TYPES))?;
        *room = room.checked_sub(1).ok_or_else(|| {
            let message =
                format!("Invalid '{param}': a filter may have {MOST_COMPARISONS} comparisons.");
            ApiError::invalid(param, "invalid_value", message)
        })?;
        let key = fields.text("key")?.to_owned();
        let value = fields.get("value")?;
        comparison.check_value(&fields.path("value"), value)?;
        Ok(Self::Compare {
            key,
            comparison,
            value: value.clone(),
        })
    }

    /// Reads the filters that `and` or `or` joins.
    fn read_list(
        fields: &FilterFields<'_>,
        depth: usize,
        room: &mut usize,
    ) -> Result<Vec<Self>, ApiError> {
        let param = fields.param;
        let path = fields.path("filters");
        let filters = fields.get("filters")?.as_array();
        let filters = filters.ok_or_else(|| invalid_type(&path, "an array"))?;
        if depth == 0 {
            let message = format!("Invalid '{param}': filters may be nested {DEEPEST} deep.");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        let filters = filters.iter().enumerate();
        filters
            .map(|(index, filter)| {
                Self::read_inner(&format!("{path}[{index}]"), filter, depth - 1, room)
            })
            .collect()
    }

    /// Whether a file with these attributes meets the condition. A file without the attribute meets
    /// only `ne` and `nin`.
    pub(crate) fn passes(&self, attributes: &Map<String, Value>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.passes(attributes)),
            Self::Any(filters) => filters.iter().any(|filter| filter.passes(attributes)),
            Self::Compare {
                key,
                comparison,
                value,
            } => {
                let attribute = attributes.get(key);
                let order = attribute.and_then(|attribute| compared(attribute, value));
                let is_in = || {
                    let mut listed = value.as_array().into_iter().flatten();
                    attribute.is_some_and(|attribute| {
                        listed.any(|one| compared(attribute, one) == Some(Ordering::Equal))
                    })
                };
                match comparison {
                    Comparison::Equal => order == Some(Ordering::Equal),
                    Comparison::NotEqual => order != Some(Ordering::Equal),
                    Comparison::Greater => order == Some(Ordering::Greater),
                    Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
                    Comparison::Less => order == Some(Ordering::Less),
                    Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
                    Comparison::In => is_in(),
                    Comparison::NotIn => !is_in(),
                }
            }
        }
    }
}

/// The fields of a filter, at the path `param` of the request.
struct FilterFields<'a> {
    param: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> FilterFields<'a> {
    fn of(param: &'a str, filter: &'a Value) -> Result<Self, ApiError> {
        let fields = filter.as_object();
        let fields = fields.ok_or_else(|| invalid_type(param, "an object"))?;
        Ok(Self { param, fields })
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.param)
    }

    fn get(&self, name: &str) -> Result<&'a Value, ApiError> {
        let value = self.fields.get(name).filter(|value| !value.is_null());
        value.ok_or_else(|| missing(self.path(name)))
    }

    fn text(&self, name: &str) -> Result<&'a str, ApiError> {
        let text = self.get(name)?.as_str();
        text.ok_or_else(|| invalid_type(&self.path(name), "a string"))
    }
}

fn invalid_type(param: &str, expected: &str) -> ApiError {
    let message = format!("Invalid type for '{param}': expected {expected}.");
    ApiError::invalid(param, "invalid_type", message)
}

impl Comparison {
    /// Checks that an attribute can be compared with a value: `in` and `nin` need a list.
    fn check_value(self, param: &str, value: &Value) -> Result<(), ApiError> {
        let needs_list = matches!(self, Self::In | Self::NotIn);
        if needs_list && !value.is_array() {
            return Err(invalid_type(param, "an array"));
        }
        if !needs_list && (value.is_array() || value.is_object()) {
            return Err(invalid_type(param, "a string, a number or a boolean"));
        }
        Ok(())
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "gt" => Self::Greater,
            "gte" => Self::GreaterOrEqual,
            "lt" => Self::Less,
            "lte" => Self::LessOrEqual,
            "in" => Self::In,
            "nin" => Self::NotIn,
            _ => return None,
        })
    }
}

/// Compares values of one type: texts by their letters, numbers by their size.
fn compared(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes() -> Map<String, Value> {
        let attributes = json!({"year": 2024, "share": 0.5, "region": "eu", "open": true});
        attributes.as_object().expect("an object").clone()
    }

    fn passes(filter: &Value) -> bool {
        let read = AttributeFilter::read("filters", filter).expect("a filter");
        read.passes(&attributes())
    }

    #[test]
    fn every_comparison_compares_values_of_one_type() {
        for (kind, key, value, expected) in [
            ("eq", "region", json!("eu"), true),
            ("eq", "region", json!("us"), false),
            ("eq", "year", json!(2024.0), true),
            ("eq", "year", json!("2024"), false),
            ("eq", "open", json!(true), true),
            ("eq", "missing", json!("eu"), false),
            ("ne", "region", json!("us"), true),
            ("ne", "region", json!("eu"), false),
            ("ne", "missing", json!("eu"), true),
            ("gt", "year", json!(2023), true),
            ("gt", "year", json!(2024), false),
            ("gt", "region", json!(1), false),
            ("gte", "year", json!(2024), true),
            ("lt", "share", json!(0.75), true),
            ("lt", "share", json!(0.5), false),
            ("lte", "share", json!(0.5), true),
            ("lt", "missing", json!(5), false),
            ("in", "region", json!(["us", "eu"]), true),
            ("in", "region", json!(["us"]), false),
            ("in", "region", json!([]), false),
            ("nin", "region", json!(["us"]), true),
            ("nin", "region", json!(["eu"]), false),
            ("nin", "missing", json!(["eu"]), true),
        ] {
            let filter = json!({"type": kind, "key": key, "value": value});
            assert_eq!(passes(&filter), expected, "{filter}");
        }
    }

    #[test]
    fn filters_are_combined() {
        let eu = json!({"type": "eq", "key": "region", "value": "eu"});
        let old = json!({"type": "lt", "key": "year", "value": 2000});
        let both = |kind: &str| json!({"type": kind, "filters": [eu, old]});
        assert!(passes(&both("or")) && !passes(&both("and")));
        assert!(passes(&json!({"type": "and", "filters": [both("or"), eu]})));
        assert!(passes(&json!({"type": "and", "filters": []})));
        assert!(!passes(&json!({"type": "or", "filters": []})));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        let mut deep = json!({"type": "eq", "key": "a", "value": 1});
        for _ in 0..20 {
            deep = json!({"type": "and", "filters": [deep]});
        }
        let one = json!({"type": "eq", "key": "a", "value": 1});
        let many = json!({"type": "or", "filters": vec![one; 101]});
        for (filter, param) in [
            (json!("eq"), "f"),
            (json!({}), "f.type"),
            (json!({"type": "like", "key": "a", "value": 1}), "f.type"),
            (json!({"type": "eq", "value": 1}), "f.key"),
            (json!({"type": "eq", "key": "a"}), "f.value"),
            (json!({"type": "eq", "key": 1, "value": 1}), "f.key"),
            (json!({"type": "eq", "key": "a", "value": [1]}), "f.value"),
            (json!({"type": "in", "key": "a", "value": 1}), "f.value"),
            (json!({"type": "and"}), "f.filters"),
            (json!({"type": "and", "filters": [1]}), "f.filters[0]"),
            (many, "f.filters[100]"),
        ] {
            let error = AttributeFilter::read("f", &filter).expect_err("no filter");
            assert_eq!(error.error.param.as_deref(), Some(param), "{filter}");
        }
        assert!(AttributeFilter::read("f", &deep).is_err());
    }
}
