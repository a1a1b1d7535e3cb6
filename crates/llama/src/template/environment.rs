//! The environment for which chat templates are written: that of Hugging Face's `transformers`.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::json;

/// The prefix of the error when a template refuses a conversation, as opposed to other failures.
/// The template's own message follows it.
pub(super) const REFUSAL: &str = "raise_exception: ";

/// Creates an environment without templates. Each rendering may take at most `fuel` steps.
pub(super) fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(fuel));
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", json::to_json);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// The syntax settings: block tags leave no empty lines. The delimiters are Jinja's defaults, so
/// building them cannot fail.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .unwrap_or_default()
}

/// The test `iterable`: whether Python can iterate over the value. Unlike Python, minijinja can
/// also iterate over undefined values.
fn is_iterable(value: &Value) -> bool {
    use minijinja::value::ValueKind::{Iterable, Undefined};
    is_sequence(value) || matches!(value.kind(), Iterable | Undefined)
}

/// The test `sequence`: whether the value is a sequence for Python, where strings and maps are
/// sequences too.
fn is_sequence(value: &Value) -> bool {
    use minijinja::value::ValueKind::{Bytes, Map, Seq, String, Undefined};
    matches!(value.kind(), String | Bytes | Seq | Map | Undefined)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{REFUSAL}{message}"),
    ))
}

/// The function `strftime_now`: the time in a format of Python's `strftime`. It is in UTC, because
/// a server has no time zone of its own.
fn strftime_now(state: &minijinja::State<'_, '_>, format: &str) -> Result<String, Error> {
    let seconds = state
        .lookup("now_in_seconds")
        .and_then(|value| i64::try_from(value).ok())
        .unwrap_or(0);
    let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::UTC)).map_err(|error| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: {error}"),
        )
    })
}
