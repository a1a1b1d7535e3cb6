//! Messages about mistakes in a configuration file, with the line, the key and an example.

use toml::de::Error;

use super::bounds;
use super::names;
use super::serde_message;
use super::settings;
use super::table::Setting;

/// A mistake: its line, and the message.
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Mistake {
    /// A TOML syntax error. Only the key is quoted, because the rest may be a secret.
    pub(super) fn of_syntax(text: &str, error: &Error) -> Self {
        let line = line_of(text, error);
        let key = text.lines().nth(line - 1).and_then(key_of);
        let message = error.message();
        let why = match key {
            Some(key) if message.contains("escape") || message.contains("unicode") => format!(
                "`{key}`: {message}; in double quotes `\\` begins an escape sequence, in single quotes it does not: 'C:\\models'"
            ),
            Some(key) => {
                let example = example(table_of(text, line), key)
                    .unwrap_or_else(|| format!("{key} = \"a text\""));
                format!(
                    "the value of `{key}` is invalid ({message}). Texts need quotes, lists need brackets. For example: {example}"
                )
            }
            None => message.to_owned(),
        };
        Self { line, why }
    }

    /// An unknown key, or a value of the wrong type.
    pub(super) fn at(text: &str, path: &str, error: &Error) -> Self {
        let why = match serde_message::unknown_field(error.message()) {
            Some((key, known)) => unknown(key, &known),
            None => wrong(path, error.message()),
        };
        Self {
            line: line_of(text, error),
            why,
        }
    }
}

fn line_of(text: &str, error: &Error) -> usize {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    before.matches('\n').count() + 1
}

/// The table of a line: the first part of its name.
fn table_of(text: &str, line: usize) -> Option<&str> {
    let before: Vec<&str> = text.lines().take(line - 1).collect();
    let header = before
        .iter()
        .rev()
        .find(|line| line.trim_start().starts_with('['))?;
    let name = header.trim_start().trim_start_matches('[');
    name.split(['.', ']']).next().map(str::trim)
}

/// Settings that also exist in tables, with the same values.
const ALSO_IN_TABLES: [&str; 4] = ["strict", "lenient", "sampling_profile", "models"];

/// An example of a line that sets a key, at the top of the file or in a table.
fn example(table: Option<&str>, key: &str) -> Option<String> {
    if let Some(table) = table
        && !ALSO_IN_TABLES.contains(&key)
    {
        return bounds::example(table, key);
    }
    settings::find(key).map(Setting::line)
}

/// The bare key that a line sets.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!key.is_empty() && key.bytes().all(is_bare)).then_some(key)
}

/// The message about an unknown key, among these.
fn unknown(key: &str, known: &[&str]) -> String {
    let meant = names::meant(key, known).map(|meant| match settings::find(meant) {
        // Only the top level of the file has that many keys.
        Some(setting) if known.len() > 20 => format!("; did you mean: {}", setting.line()),
        _ => format!("; did you mean `{meant}`?"),
    });
    format!(
        "unknown field `{key}`{}\nThe fields here are {}.",
        meant.unwrap_or_default(),
        known.join(", ")
    )
}

/// The found type, the expected type, and an example. The value of a key is not quoted.
fn wrong(path: &str, message: &str) -> String {
    let top = path.split(['.', '[']).next().unwrap_or_default();
    let of_its_table = path
        .split('.')
        .nth(1)
        .and_then(|key| bounds::example(top, key));
    let example = of_its_table.or_else(|| example(None, top));
    let example = example.map(|example| format!("; for example: {example}"));
    let example = example.unwrap_or_default();
    let named = if path.is_empty() || path == "." {
        String::new()
    } else {
        format!("`{path}`")
    };
    match serde_message::wrong_type(message) {
        Some((_, wanted)) if top == "key" => {
            format!("{named} has the wrong type; expected {wanted}{example}")
        }
        Some((found, wanted)) => format!("{named} is {found}; expected {wanted}{example}"),
        None if named.is_empty() => message.to_owned(),
        None => format!("{named}: {message}{example}"),
    }
}
