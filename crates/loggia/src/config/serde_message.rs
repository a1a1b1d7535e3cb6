//! Parses serde's error messages, so that they can be reworded for people.

/// The key, and those that are known, of: ``unknown field `lissten`, expected one of `listen`, …``.
pub(super) fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut words = message.strip_prefix("unknown field `")?.split('`');
    let key = words.next()?;
    Some((key, words.skip(1).step_by(2).collect()))
}

/// The found and the expected type, of: `invalid type: string "many", expected usize`.
pub(super) fn wrong_type(message: &str) -> Option<(String, String)> {
    let types = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, wanted) = types.rsplit_once(", expected ")?;
    Some((found_type(found), wanted_type(wanted)))
}

fn found_type(found: &str) -> String {
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

fn wanted_type(wanted: &str) -> String {
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
