//! The filter `tojson` as in `transformers`: the output of Python's `json.dumps` with its spaces,
//! without HTML escapes.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};
use serde_json::value::RawValue;

use super::number::LongNumber;

/// The filter, for `value | tojson` and `value | tojson(indent=4)`.
#[expect(clippy::needless_pass_by_value, reason = "a filter has this signature")]
pub(super) fn to_json(
    value: Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = indent.or(options.get("indent")?);
    // The other arguments have no effect: non-ASCII text is never escaped, and keys keep their
    // order.
    let _ = (
        options.get::<Option<bool>>("ensure_ascii")?,
        options.get::<Option<bool>>("sort_keys")?,
    );
    let _ = options.get::<Option<Value>>("separators")?;
    options.assert_all_used()?;
    let json = match indent {
        Some(width) => write(
            &Json(&value),
            PrettyFormatter::with_indent(" ".repeat(width.min(16)).as_bytes()),
        ),
        None => write(&Json(&value), Spaced),
    };
    json.map(Value::from_safe_string)
}

/// A value whose numbers keep all their digits.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value) = self;
        if let Some(number) = value.downcast_object_ref::<LongNumber>() {
            let raw: &RawValue = serde_json::from_str(number.as_str()).map_err(S::Error::custom)?;
            return raw.serialize(serializer);
        }
        let items = || value.try_iter().map_err(S::Error::custom);
        match value.kind() {
            ValueKind::Map => {
                let entry = |key: Value| {
                    value
                        .get_item(&key)
                        .map(|value| (key, value))
                        .map_err(S::Error::custom)
                };
                let mut map = serializer.serialize_map(value.len())?;
                for key in items()? {
                    let (key, value) = entry(key)?;
                    map.serialize_entry(&key, &Json(&value))?;
                }
                map.end()
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let mut seq = serializer.serialize_seq(value.len())?;
                for item in items()? {
                    seq.serialize_element(&Json(&item))?;
                }
                seq.end()
            }
            _ => value.serialize(serializer),
        }
    }
}

/// Writes any value as JSON text in the format [`Spaced`].
pub(super) fn text(value: &impl Serialize) -> Result<String, Error> {
    write(value, Spaced)
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"))
    };
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// The format `{"a": 1, "b": [2, 3]}`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
