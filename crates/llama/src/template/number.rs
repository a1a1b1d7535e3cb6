//! Parses JSON to values for templates. Numbers keep all their digits.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A number, as its JSON text, that neither a 128-bit integer nor a double can represent with the
/// same digits.
#[derive(Debug)]
pub(super) struct LongNumber(String);

impl LongNumber {
    /// The number as JSON text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Object for LongNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a JSON text to a value; `None` if it is invalid.
pub(super) fn value(json: &str) -> Option<Value> {
    serde_json::from_str::<&RawValue>(json)
        .ok()
        .and_then(|raw| of_raw(raw).ok())
}

fn of_raw(raw: &RawValue) -> Result<Value, serde_json::Error> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{' | b'[') => serde_json::from_str::<List>(text)?.0,
        Some(b'"') => Value::from(serde_json::from_str::<String>(text)?),
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'n') => Value::from(()),
        _ => number(text),
    })
}

fn number(text: &str) -> Value {
    let long = || text.parse::<i128>().map(Value::from);
    if let Ok(integer) = text.parse::<i64>().map(Value::from).or_else(|_| long()) {
        return integer;
    }
    // Within these bounds, Rust and Python write a double with all its digits and without an
    // exponent.
    let is_plain = |float: f64| float == 0.0 || (1e-4..1e16).contains(&float.abs());
    match text.parse::<f64>() {
        Ok(float) if is_plain(float) && decimal(&float.to_string()) == decimal(text) => {
            Value::from(float)
        }
        _ => Value::from_object(LongNumber(text.to_owned())),
    }
}

/// Splits a number into its sign, its digits without leading and trailing zeros, and the exponent
/// of the last digit. Equal numbers give equal results.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((text, exponent)) => (text, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - digits.len()).ok()?;
    let last = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(zeros)?;
    let digits = digits.trim_start_matches('0');
    Some((
        negative,
        digits.to_owned(),
        if digits.is_empty() { 0 } else { last },
    ))
}

/// An object or an array whose values are still JSON text, because only the text has all the digits
/// of a number.
struct List(Value);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut values = Vec::new();
                while let Some(raw) = items.next_element::<&RawValue>()? {
                    values.push(of_raw(raw).map_err(A::Error::custom)?);
                }
                Ok(List(Value::from(values)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<List, A::Error> {
                let mut values = Vec::new();
                while let Some((key, raw)) = entries.next_entry::<String, &RawValue>()? {
                    values.push((key, of_raw(raw).map_err(A::Error::custom)?));
                }
                Ok(List(Value::from_pairs(values)))
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for text in [
            "0",
            "-1",
            "25227143063332189585438",
            "-170141183460469231731687303715884105728",
        ] {
            assert_eq!(number(text).to_string(), text);
        }
        for text in [
            "0.1234567890123456789",
            "1e400",
            "-1E-400",
            "340282366920938463463374607431768211456",
            "1e22",
        ] {
            let value = number(text);
            assert!(
                value.downcast_object_ref::<LongNumber>().is_some(),
                "{text}"
            );
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn numbers_that_a_double_is_are_doubles() {
        for (text, double) in [
            ("1.5", 1.5),
            ("0.1", 0.1),
            ("1.50", 1.5),
            ("1e3", 1000.0),
            ("-2.5E-2", -0.025),
            ("0.0", 0.0),
        ] {
            assert_eq!(number(text), Value::from(double), "{text}");
            assert!(
                number(text).downcast_object_ref::<LongNumber>().is_none(),
                "{text}"
            );
        }
    }
}
