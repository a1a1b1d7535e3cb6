//! Messages about mistakes in a configuration file, with the line, the key and an example.

use toml::de::Error;

use super::bounds;
use super::names;
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
        let why = match error.message().strip_prefix("unknown field `") {
            Some(rest) => unknown(rest),
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

/// Rewords serde's message: ``lissten`, expected one of `listen`, `data_dir`…``.
fn unknown(rest: &str) -> String {
    let mut words = rest.split('`');
    let key = words.next().unwrap_or_default();
    let known: Vec<&str> = words.skip(1).step_by(2).collect();
    let meant = names::meant(key, &known).map(|meant| match settings::find(meant) {
        // This is the top of the file.
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
    let kinds = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    let named = if path.is_empty() || path == "." {
        String::new()
    } else {
        format!("`{path}`")
    };
    match kinds.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, wanted)) if top == "key" => {
            format!(
                "{named} has the wrong type; expected {}{example}",
                wanted_kind(wanted)
            )
        }
        Some((found, wanted)) => {
            format!(
                "{named} is {}; expected {}{example}",
                found_kind(found),
                wanted_kind(wanted)
            )
        }
        None if named.is_empty() => message.to_owned(),
        None => format!("{named}: {message}{example}"),
    }
}

fn found_kind(found: &str) -> String {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "string" => format!("the text {value}"),
        "integer" => format!("the number {}", value.trim_matches('`')),
        "floating" => format!(
            "the number {}",
            value.trim_start_matches("point ").trim_matches('`')
        ),
        "boolean" => value.trim_matches('`').to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        _ => found.to_owned(),
    }
}

fn wanted_kind(wanted: &str) -> String {
    let is_number = |word: &str| matches!(word, "u8" | "u16" | "u32" | "u64" | "usize" | "i64");
    match wanted {
        "a nonzero u32" => "a whole number from 1".to_owned(),
        word if is_number(word) => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "a text in quotes".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        word if word.starts_with("struct ") => "a table".to_owned(),
        word => word.to_owned(),
    }
}
