//! Edits JSON with comments.

use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

use super::{Edit, EditError, leaves};

/// JSON with comments and trailing commas, as editors and clients accept it; not JSON5.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The value of a text. An empty text is null.
pub(super) fn parsed(text: &str) -> Result<Value, EditError> {
    let value = parse_to_serde_value(text, &OPTIONS);
    value.map_err(|error| EditError::Broken(error.to_string()))
}

/// Applies the edits. Their paths must lead to values of the expected types.
pub(super) fn edited(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let root = CstRootNode::parse(text, &OPTIONS);
    let root = root.map_err(|error| EditError::Broken(error.to_string()))?;
    let object = root.object_value_or_set();
    for edit in edits {
        match edit {
            Edit::Set(path, value) => set_all(&object, path, value)?,
            Edit::Default(path, value) => {
                let (folder, key) = folder(&object, path)?;
                if folder.get(key).is_none() {
                    folder.append(key, input(value));
                }
            }
            Edit::Remove(path, old) => {
                if let Some((key, path)) = path.split_last()
                    && let Some(folder) = existing(&object, path)
                    && field(&folder, key).as_ref() == Some(old)
                    && let Some(property) = folder.get(key)
                {
                    property.remove();
                }
            }
            Edit::Put { list, by, item } => {
                let array = array(&object, list)?;
                let wanted = item.get(*by);
                let items = array.elements();
                let mut objects = items.iter().filter_map(CstNode::as_object);
                match objects.find(|old| field(old, by).as_ref() == wanted) {
                    Some(old) => set_all(&old, &[], &Value::Object(item.clone()))?,
                    None => drop(array.append(input(&Value::Object(item.clone())))),
                }
            }
        }
    }
    let mut new = root.to_string();
    if !new.ends_with('\n') {
        new.push('\n');
    }
    Ok(new)
}

/// Sets every value of an object that is not an object itself.
fn set_all(object: &CstObject, path: &[String], value: &Value) -> Result<(), EditError> {
    for (path, value) in leaves(path, value) {
        let (folder, key) = folder(object, &path)?;
        match folder.get(key) {
            // An empty object is merged with what is there.
            Some(_) if value.is_object() => {}
            Some(old) => old.set_value(input(&value)),
            None => drop(folder.append(key, input(&value))),
        }
    }
    Ok(())
}

/// The object that contains the last key of a path.
fn folder<'a>(object: &CstObject, path: &'a [String]) -> Result<(CstObject, &'a str), EditError> {
    let (key, path) = path.split_last().ok_or(EditError::Unsafe)?;
    let mut object = object.clone();
    for key in path {
        object = object
            .object_value_or_create(key)
            .ok_or(EditError::Unsafe)?;
    }
    Ok((object, key))
}

/// The object at a path, if there is one.
fn existing(object: &CstObject, path: &[String]) -> Option<CstObject> {
    path.iter()
        .try_fold(object.clone(), |object, key| object.object_value(key))
}

fn array(object: &CstObject, path: &[String]) -> Result<CstArray, EditError> {
    let (object, key) = folder(object, path)?;
    object.array_value_or_create(key).ok_or(EditError::Unsafe)
}

/// The value of a field.
fn field(object: &CstObject, key: &str) -> Option<Value> {
    object.get(key)?.value()?.to_serde_value()
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(fields) => CstInputValue::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), input(value)))
                .collect(),
        ),
    }
}
