//! Edits TOML.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value as TomlValue};

use super::{Edit, EditError, leaves};

/// The value of a text.
pub(super) fn parsed(text: &str) -> Result<Value, EditError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // The error's own text repeats the line of the file, which may be long and contain keys.
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = 1 + before.unwrap_or_default().matches('\n').count();
        EditError::Broken(format!("{} on line {line}", error.message()))
    })
}

/// Applies the edits. Their paths must lead to values of the expected types. No client has lists in
/// such a file.
pub(super) fn edited(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| EditError::Broken(error.to_string()))?;
    for edit in edits {
        match edit {
            Edit::Set(path, value) => {
                for (path, value) in leaves(path, value) {
                    set(document.as_table_mut(), &path, &value)?;
                }
            }
            Edit::Remove(path, old) => remove(document.as_table_mut(), path, old),
            Edit::Default(..) | Edit::Put { .. } => return Err(EditError::Unsafe),
        }
    }
    Ok(document.to_string())
}

fn set(table: &mut dyn TableLike, path: &[String], value: &Value) -> Result<(), EditError> {
    match path {
        [] => Err(EditError::Unsafe),
        [key] => {
            let mut new = item(value).ok_or(EditError::Unsafe)?;
            // `insert` would drop the comment above the key.
            if let Some(old) = table.get_mut(key) {
                if let Some(old) = old.as_value() {
                    // The comment after the value is kept.
                    new.decor_mut().clone_from(old.decor());
                }
                *old = Item::Value(new);
            } else {
                table.insert(key, Item::Value(new));
            }
            Ok(())
        }
        [key, rest @ ..] => {
            let folder = table.entry(key).or_insert_with(|| {
                let mut folder = Table::new();
                folder.set_implicit(true);
                Item::Table(folder)
            });
            set(
                folder.as_table_like_mut().ok_or(EditError::Unsafe)?,
                rest,
                value,
            )
        }
    }
}

/// Removes a value if it equals `old`.
fn remove(table: &mut dyn TableLike, path: &[String], old: &Value) {
    match path {
        [] => {}
        [key] => {
            let found = table.get(key).and_then(Item::as_str);
            if found.is_some() && found == old.as_str() {
                table.remove(key);
            }
        }
        [key, rest @ ..] => {
            if let Some(folder) = table.get_mut(key).and_then(Item::as_table_like_mut) {
                remove(folder, rest, old);
            }
        }
    }
}

fn item(value: &Value) -> Option<TomlValue> {
    Some(match value {
        Value::Null | Value::Object(_) => return None,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => {
            let items: Option<Array> = items.iter().map(item).collect();
            TomlValue::Array(items?)
        }
    })
}
