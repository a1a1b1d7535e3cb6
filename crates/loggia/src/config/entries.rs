//! A table as a single text, for a flag or variable: `choices=8,whole_time=10m`.

use loggia_backend::nearest;
use serde::de::DeserializeOwned;

use super::serde_message;
use super::value::ValueError;

/// Parses `KEY=VALUE,…`, or an inline TOML table: `{ choices = 8 }`. A value that is not TOML is a
/// string: `whole_time=10m`.
pub(super) fn entries<T: DeserializeOwned>(text: &str) -> Result<T, ValueError> {
    let table = match text.trim() {
        inline if inline.starts_with('{') => match value(inline) {
            toml::Value::Table(table) => table,
            _ => return Err(ValueError::Entries(text.to_owned())),
        },
        list => split(list)
            .map(|entry| {
                let (key, text) = entry
                    .split_once('=')
                    .ok_or_else(|| ValueError::Entries(entry.to_owned()))?;
                Ok((key.trim().to_owned(), value(text.trim())))
            })
            .collect::<Result<_, ValueError>>()?,
    };
    serde_path_to_error::deserialize(table)
        .map_err(|error| ValueError::Entry(explained(&error.path().to_string(), error.inner())))
}

/// The error of an entry. If the entry is unknown, `path` ends with its name.
fn explained(path: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    if let Some((key, known)) = serde_message::unknown_field(message) {
        let meant = nearest(key, known.iter().copied());
        return match meant {
            Some(meant) => format!("unknown entry `{key}`; did you mean `{meant}`?"),
            None => format!(
                "unknown entry `{key}`; the entries are {}",
                known.join(", ")
            ),
        };
    }
    match serde_message::wrong_type(message) {
        Some((found, wanted)) => format!("`{path}` is {found}; expected {wanted}"),
        None if path == "." => message.to_owned(),
        None => format!("`{path}`: {message}"),
    }
}

/// Parses a TOML value; anything else is a string.
fn value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("it = {text}"))
        .ok()
        .and_then(|mut table| table.remove("it"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Splits at commas, but not inside of brackets and quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut is_quoted) = (0_usize, false);
    text.split(move |letter| {
        match letter {
            '"' => is_quoted = !is_quoted,
            '[' | '{' if !is_quoted => depth += 1,
            ']' | '}' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0 && !is_quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, ValueError> {
        entries::<toml::Table>(text).map(|table| toml::Value::Table(table).to_string())
    }

    #[test]
    fn entries_are_toml_or_texts_and_stand_between_commas() {
        let inline = r#"{ a = 8, b = "10m", c = [80, 443], d = { e = true }, f = "x,y" }"#;
        let list = r#"a=8, b=10m ,c=[80, 443],d={ e = true }, f="x,y","#;
        assert_eq!(read(list).unwrap(), inline);
        assert_eq!(read(inline).unwrap(), inline);
        assert_eq!(
            read("m:1b={strict=true}").unwrap(),
            r#"{ "m:1b" = { strict = true } }"#
        );
    }

    #[test]
    fn what_is_no_entry_is_said_to_be_none() {
        for text in ["choices", "{ choices", "a=1,b"] {
            assert!(matches!(read(text), Err(ValueError::Entries(_))), "{text}");
        }
    }
}
