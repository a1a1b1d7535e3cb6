//! Edits YAML line by line: keys at the top level, and lists whose items begin with `- `, at the
//! top level or under a key there. It does not know other YAML syntax. The caller therefore parses
//! the result and refuses it if it is not as expected.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{Edit, EditError, merge};

/// The value of a text. An empty text is null.
pub(super) fn parsed(text: &str) -> Result<Value, EditError> {
    if text.lines().all(is_beside) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| EditError::Broken(error.to_string()))
}

/// Applies the edits.
pub(super) fn edited(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for edit in edits {
        match edit {
            Edit::Set(path, value) => {
                let [key] = &path[..] else {
                    return Err(EditError::Unsafe);
                };
                let line = format!("{key}: {}", written(value));
                match at(&lines, key) {
                    Some(place) => lines[place] = format!("{line}{}", comment(&lines[place])),
                    None => lines.push(line),
                }
            }
            Edit::Default(path, value) => {
                let [key] = &path[..] else {
                    return Err(EditError::Unsafe);
                };
                if at(&lines, key).is_none() {
                    lines.push(format!("{key}: {}", written(value)));
                }
            }
            Edit::Remove(path, old) => {
                let [key] = &path[..] else {
                    return Err(EditError::Unsafe);
                };
                let line = format!("{key}: {}", written(old));
                lines.retain(|other| other.trim_end() != line);
            }
            Edit::Put { list, by, item } => match &list[..] {
                [] => {
                    let all = 0..lines.len();
                    put(&mut lines, all, 0, by, item);
                }
                [key] => {
                    let list = list_of(&mut lines, key);
                    put(&mut lines, list, 2, by, item);
                }
                _ => return Err(EditError::Unsafe),
            },
        }
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// The line of a key at the top.
fn at(lines: &[String], key: &str) -> Option<usize> {
    lines.iter().position(|line| {
        line.strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// The lines below a key at the top; adds the key if it is missing.
fn list_of(lines: &mut Vec<String>, key: &str) -> Range<usize> {
    let Some(place) = at(lines, key) else {
        lines.push(format!("{key}:"));
        return lines.len()..lines.len();
    };
    if lines[place][key.len() + 1..].trim() == "[]" {
        lines[place] = format!("{key}:");
    }
    let below = lines[place + 1..].iter();
    let below = below.take_while(|line| is_beside(line) || line.starts_with([' ', '-']));
    place + 1..place + 1 + below.count()
}

/// Puts an item into the list within these lines.
fn put(
    lines: &mut Vec<String>,
    list: Range<usize>,
    usual: usize,
    by: &str,
    item: &Map<String, Value>,
) {
    let starts: Vec<usize> = list
        .clone()
        .filter(|&place| starts_item(&lines[place]))
        .collect();
    let indent = starts
        .first()
        .map_or(usual, |&first| indent_of(&lines[first]));
    let starts: Vec<usize> = starts
        .into_iter()
        .filter(|&place| indent_of(&lines[place]) == indent)
        .collect();
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(list.end);
        let end = start + used(&lines[start..end]);
        let Ok(Value::Array(old)) = parsed(&lines[start..end].join("\n")) else {
            continue;
        };
        let Some(old) = old.into_iter().next() else {
            continue;
        };
        if old.get(by) == item.get(by) {
            let mut new = old.clone();
            merge(&mut new, &Value::Object(item.clone()));
            if let (Value::Object(old), Value::Object(new)) = (old, new) {
                let item = changed_item(&lines[start..end], &old, &new);
                lines.splice(start..end, item);
            }
            return;
        }
    }
    let end = list.start + used(&lines[list]);
    lines.splice(end..end, item_lines(item, indent));
}

/// The lines of an item in which the fields of `old` that differ in `new` are written again. The
/// other lines stay as they are.
fn changed_item(
    lines: &[String],
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Vec<String> {
    // The first field is on the line of the `-`, the others are below it.
    let behind_mark = |line: &str| line.replacen('-', " ", 1);
    let indent = indent_of(&behind_mark(&lines[0]));
    let mut lines: Vec<String> = lines.to_vec();
    let mark = lines[0][..indent].to_owned();
    lines[0] = behind_mark(&lines[0]);
    for (key, value) in new
        .iter()
        .filter(|&(key, value)| old.get(key) != Some(value))
    {
        let line = format!("{:indent$}{key}: {}", "", written(value));
        let is_field = |line: &String| !is_beside(line) && indent_of(line) == indent;
        let own: Vec<String> = lines
            .iter()
            .map(|line| line.get(indent..).unwrap_or_default().to_owned())
            .collect();
        let Some(place) = at(&own, key) else {
            lines.push(line);
            continue;
        };
        let below = lines[place + 1..].iter();
        let end = place + 1 + below.take_while(|line| !is_field(line)).count();
        let end = place + used(&lines[place..end]);
        let line = format!("{line}{}", comment(&lines[place]));
        lines.splice(place..end, [line]);
    }
    lines[0].replace_range(..indent, &mark);
    lines
}

/// The comment at the end of a line, with the space before it.
fn comment(line: &str) -> &str {
    let value = parsed(line);
    let mut starts = line.match_indices(" #").map(|(start, _)| start);
    let start = starts.find(|&start| value.is_ok() && parsed(&line[..start]) == value);
    start.map_or("", |start| &line[start..])
}

/// The number of lines up to the last that is not blank or a comment.
fn used(lines: &[String]) -> usize {
    let last = lines.iter().rposition(|line| !is_beside(line));
    last.map_or(0, |last| last + 1)
}

fn item_lines(item: &Map<String, Value>, indent: usize) -> Vec<String> {
    let line = |(number, (key, value)): (usize, (&String, &Value))| {
        let mark = if number == 0 { "- " } else { "  " };
        format!("{:indent$}{mark}{key}: {}", "", written(value))
    };
    item.iter().enumerate().map(line).collect()
}

fn starts_item(line: &str) -> bool {
    let line = line.trim_start();
    line == "-" || line.starts_with("- ")
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a line is blank or a comment.
fn is_beside(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// A value in one line. JSON is YAML; texts that need no quotes have none.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let word = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@".contains(letter);
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(word)
        && !text.ends_with(':')
        // Must not be read as another type, like `true` or `null`.
        && parsed(text) == Ok(Value::String(text.to_owned()))
}
