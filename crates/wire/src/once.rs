//! `Once`: JSON of any shape that rejects duplicate fields in its objects.
//!
//! `serde_json::Value` and maps silently keep the last of two duplicate fields, so the client would
//! not learn that the first is lost. The error is serde's own for a struct, ``duplicate field `…`
//! ``, and has the path of the object.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map};

/// A JSON value, or a map of values, whose objects have no duplicate fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Once<T>(pub T);

impl<'de> Deserialize<'de> for Once<Value> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Once<f64> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

impl<'de, T> Deserialize<'de> for Once<BTreeMap<String, T>>
where
    Once<T>: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(MapVisitor::<T>(PhantomData))
            .map(Self)
    }
}

pub(crate) fn twice<E: Error>(field: &str) -> E {
    E::custom(format_args!("duplicate field `{field}`"))
}

struct MapVisitor<T>(PhantomData<T>);

impl<'de, T> Visitor<'de> for MapVisitor<T>
where
    Once<T>: Deserialize<'de>,
{
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<BTreeMap<String, T>, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            match all.entry(key) {
                btree_map::Entry::Vacant(place) => {
                    _ = place.insert(fields.next_value::<Once<T>>()?.0);
                }
                btree_map::Entry::Occupied(place) => return Err(twice(place.key())),
            }
        }
        Ok(all)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Once(item)) = items.next_element::<Once<Value>>()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            match all.entry(key) {
                map::Entry::Vacant(place) => {
                    _ = place.insert(fields.next_value::<Once<Value>>()?.0);
                }
                map::Entry::Occupied(place) => return Err(twice(place.key())),
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> Option<String> {
        serde_json::from_str::<Once<Value>>(json)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn a_value_is_read_as_serde_json_reads_it() {
        let json = r#"{"a":[1,-2,2.5,18446744073709551615,99999999999999999999,null,true,"né\n"],"":{"b":{},"a":[]},"a b":"\ud83d\ude00"}"#;
        let Once(value) = serde_json::from_str::<Once<Value>>(json).unwrap();
        let usual: Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            value.to_string(),
            usual.to_string(),
            "the order of the fields too"
        );
    }

    #[test]
    fn a_field_that_comes_twice_is_an_error_however_deep_it_is() {
        for (json, field) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":[{"b":{"c":1,"d":2,"c":3}}]}"#, "c"),
            (r#"[[{"":0,"":0}]]"#, ""),
            (r#"{"a":1,"\u0061":2}"#, "a"),
        ] {
            let refusal = refusal(json).unwrap_or_default();
            assert!(
                refusal.starts_with(&format!("duplicate field `{field}`")),
                "{json}: {refusal}"
            );
        }
        assert_eq!(
            refusal(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#),
            None
        );
        let twice = serde_json::from_str::<Once<BTreeMap<String, f64>>>(r#"{"5":1,"5":2}"#);
        assert!(twice.is_err_and(|error| error.to_string().starts_with("duplicate field `5`")));
    }
}
