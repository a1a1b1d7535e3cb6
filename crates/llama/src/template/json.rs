//! The filter `tojson` as `transformers` has it: Python's `json.dumps` with its spaces, and nothing escaped for HTML.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

/// `value | tojson`, `value | tojson(indent=4)`.
#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
pub(super) fn to_json(value: Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = indent.or(options.get("indent")?);
    // The others are accepted and change nothing: text is never escaped, and keys keep their order.
    let _ = (options.get::<Option<bool>>("ensure_ascii")?, options.get::<Option<bool>>("sort_keys")?);
    let _ = options.get::<Option<Value>>("separators")?;
    options.assert_all_used()?;
    let json = match indent {
        Some(width) => write(&value, PrettyFormatter::with_indent(" ".repeat(width.min(16)).as_bytes())),
        None => write(&value, Spaced),
    };
    json.map(Value::from_safe_string)
}

/// The same of any value.
pub(super) fn text(value: &impl Serialize) -> Result<String, Error> {
    write(value, Spaced)
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let failed = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"));
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter)).map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// `{"a": 1, "b": [2, 3]}`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
