//! Merges settings into the text of a file, and keeps everything else, comments included.
//!
//! The effect of an edit is defined on values ([`apply`]); `json`, `toml` and `yaml` do the same to
//! text. The result is parsed and compared, so that a fault there is an error and never a file that
//! lost something.

mod json;
mod toml;
mod yaml;

use serde_json::{Map, Value};

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON, with comments if the client allows them.
    Json,
    Toml,
    Yaml,
}

/// A change of a file.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Sets the value at a path. Objects are merged, so that other keys remain.
    Set(Vec<String>, Value),
    /// Sets the value at a path if there is none.
    Default(Vec<String>, Value),
    /// Removes the value at a path if it is this one: a setting of an earlier run that would be
    /// wrong now.
    Remove(Vec<String>, Value),
    /// Puts an object into the list at a path, or into the item with the same value of `by`.
    Put {
        list: Vec<String>,
        by: &'static str,
        item: Map<String, Value>,
    },
}

/// Why a file cannot be merged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditError {
    #[error("the file is not valid: {0}; correct it, or move it away")]
    Broken(String),
    #[error("`{0}` in the file is not {1}; correct it, or move the file away")]
    Shape(String, &'static str),
    #[error(
        "the file is written in a way that cannot be changed safely; add the settings that the \
         command prints without --write"
    )]
    Unsafe,
}

/// Returns the text of the file after the edits.
pub(super) fn merged(format: Format, text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let old = parsed(format, text)?;
    let mut wanted = old.clone();
    for edit in edits {
        apply(&mut wanted, edit)?;
    }
    if old == wanted {
        return Ok(text.to_owned());
    }
    let new = match format {
        Format::Json => json::edited(text, edits)?,
        Format::Toml => toml::edited(text, edits)?,
        Format::Yaml => yaml::edited(text, edits)?,
    };
    let new = with_line_ends_of(text, new);
    match parsed(format, &new) {
        Ok(value) if value == wanted => Ok(new),
        _ => Err(EditError::Unsafe),
    }
}

/// Returns the new text with the line ends of the old one, which an editor of Windows may have
/// made.
fn with_line_ends_of(old: &str, new: String) -> String {
    let count = |end: &str| old.matches(end).count();
    if count("\r\n") > 0 && count("\r\n") == count("\n") {
        new.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        new
    }
}

/// The value of a text. An empty text is null.
fn parsed(format: Format, text: &str) -> Result<Value, EditError> {
    match format {
        Format::Json => json::parsed(text),
        Format::Toml => toml::parsed(text),
        Format::Yaml => yaml::parsed(text),
    }
}

/// Applies an edit to a value.
fn apply(value: &mut Value, edit: &Edit) -> Result<(), EditError> {
    match edit {
        Edit::Set(path, new) => {
            merge(at(value, path)?, new);
        }
        Edit::Default(path, new) => {
            let place = at(value, path)?;
            if place.is_null() {
                *place = new.clone();
            }
        }
        Edit::Remove(path, old) => {
            if let Some((key, path)) = path.split_last()
                && let Some(Value::Object(fields)) = existing(value, path)
                && fields.get(key) == Some(old)
            {
                fields.shift_remove(key);
            }
        }
        Edit::Put { list, by, item } => {
            let place = at(value, list)?;
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let Value::Array(items) = place else {
                return Err(EditError::Shape(list.join("."), "a list"));
            };
            let same = items.iter_mut().find(|old| old.get(by) == item.get(*by));
            match same {
                Some(old) => merge(old, &Value::Object(item.clone())),
                None => items.push(Value::Object(item.clone())),
            }
        }
    }
    Ok(())
}

/// The value at a path, if there is one.
fn existing<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| value.get_mut(key))
}

/// The value at a path, null if there is none.
fn at<'a>(value: &'a mut Value, path: &[String]) -> Result<&'a mut Value, EditError> {
    let mut place = value;
    for (depth, key) in path.iter().enumerate() {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(fields) = place else {
            return Err(not_an_object(&path[..depth]));
        };
        place = fields.entry(key.clone()).or_insert(Value::Null);
    }
    Ok(place)
}

fn merge(old: &mut Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (old, new) => old.clone_from(new),
    }
}

fn not_an_object(path: &[String]) -> EditError {
    if path.is_empty() {
        EditError::Broken("it does not contain an object".to_owned())
    } else {
        EditError::Shape(path.join("."), "an object")
    }
}

/// All settings of an edit, each with its path and a value that is not an object.
fn leaves(path: &[String], value: &Value) -> Vec<(Vec<String>, Value)> {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields
            .iter()
            .flat_map(|(key, value)| leaves(&[path, std::slice::from_ref(key)].concat(), value))
            .collect(),
        _ => vec![(path.to_vec(), value.clone())],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(path: &[&str], value: Value) -> Edit {
        Edit::Set(path.iter().map(|&key| key.to_owned()).collect(), value)
    }

    fn put(list: &[&str], by: &'static str, item: Value) -> Edit {
        let Value::Object(item) = item else {
            panic!("an object")
        };
        let list = list.iter().map(|&key| key.to_owned()).collect();
        Edit::Put { list, by, item }
    }

    fn default(key: &str, value: Value) -> Edit {
        Edit::Default(vec![key.to_owned()], value)
    }

    #[test]
    fn json_keeps_comments_order_and_everything_else() {
        let old = "{\n  // mine\n  \"theme\": \"dark\",\n  \"provider\": {\n    \"other\": {\"a\": 1}, // theirs\n  },\n}\n";
        let edits = [
            set(
                &["provider", "loggia"],
                json!({"npm": "x", "models": {"m": {}}}),
            ),
            set(&["model"], json!("loggia/m")),
            default("theme", json!("light")),
        ];
        let new = merged(Format::Json, old, &edits).unwrap();
        assert!(
            new.contains("// mine") && new.contains("// theirs"),
            "{new}"
        );
        assert_eq!(
            json::parsed(&new).unwrap(),
            json!({"theme": "dark", "model": "loggia/m",
                "provider": {"other": {"a": 1}, "loggia": {"npm": "x", "models": {"m": {}}}}})
        );
        assert_eq!(merged(Format::Json, &new, &edits).unwrap(), new);
        // A second model is added to the first.
        let second = [set(
            &["provider", "loggia"],
            json!({"npm": "y", "models": {"n": {"a": [1]}}}),
        )];
        let new = merged(Format::Json, &new, &second).unwrap();
        assert_eq!(
            json::parsed(&new).unwrap()["provider"]["loggia"],
            json!({"npm": "y", "models": {"m": {}, "n": {"a": [1]}}})
        );
    }

    #[test]
    fn json_lists_keep_their_items() {
        let edits = [put(
            &["a", "b"],
            "id",
            json!({"id": "m", "url": "u", "more": {"x": 1}}),
        )];
        let new = merged(Format::Json, "", &edits).unwrap();
        assert_eq!(
            json::parsed(&new).unwrap(),
            json!({"a": {"b": [{"id": "m", "url": "u", "more": {"x": 1}}]}})
        );
        let old = r#"{"a": {"b": [{"id": "other"}, /* mine */ {"id": "m", "url": "old", "keep": true}]}}"#;
        let new = merged(Format::Json, old, &edits).unwrap();
        assert!(new.contains("/* mine */"), "{new}");
        assert_eq!(
            json::parsed(&new).unwrap(),
            json!({"a": {"b": [{"id": "other"}, {"id": "m", "url": "u", "keep": true, "more": {"x": 1}}]}})
        );
    }

    #[test]
    fn toml_keeps_comments_order_and_everything_else() {
        let old = "# mine\nmodel = \"gpt\" # theirs\n\n[projects.\"/a\"]\ntrust = true\n\n[model_providers.other]\nname = \"o\"\n";
        let edits = [
            set(&["model"], json!("m")),
            set(&["model_provider"], json!("loggia")),
            set(&["model_context_window"], json!(4096)),
            set(
                &["model_providers", "loggia"],
                json!({"name": "Loggia", "base_url": "u", "retry": false}),
            ),
        ];
        let new = merged(Format::Toml, old, &edits).unwrap();
        assert!(new.starts_with("# mine\nmodel = \"m\" # theirs\n"), "{new}");
        assert!(new.contains("[model_providers.loggia]\n"), "{new}");
        assert_eq!(merged(Format::Toml, &new, &edits).unwrap(), new);
        let fresh = merged(Format::Toml, "", &edits).unwrap();
        assert_eq!(
            fresh,
            "model = \"m\"\nmodel_provider = \"loggia\"\nmodel_context_window = 4096\n\n[model_providers.loggia]\nname = \"Loggia\"\nbase_url = \"u\"\nretry = false\n"
        );
        // Tables that are written in a line are changed too.
        let inline = "model_providers = {other = {name = \"o\"}}\n";
        let new = merged(Format::Toml, inline, &edits).unwrap();
        assert_eq!(
            toml::parsed(&new).unwrap()["model_providers"]["other"]["name"],
            "o"
        );
    }

    #[test]
    fn yaml_keeps_comments_order_and_everything_else() {
        let edits = [
            set(&["model"], json!("openai/m")),
            set(&["base"], json!("http://127.0.0.1:1/v1")),
        ];
        let old = "# mine\nmodel: gpt\n\n# theirs\nread: [a, b]\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            "# mine\nmodel: openai/m\n\n# theirs\nread: [a, b]\nbase: http://127.0.0.1:1/v1\n"
        );
        let model = json!({"name": "m", "key": "${{ secrets.K }}", "can": ["a"], "more": {"x": 1}});
        let edits = [
            default("name", json!("Local")),
            put(&["models"], "name", model),
        ];
        let item =
            "  - name: m\n    key: \"${{ secrets.K }}\"\n    can: [\"a\"]\n    more: {\"x\":1}\n";
        assert_eq!(
            merged(Format::Yaml, "", &edits).unwrap(),
            format!("name: Local\nmodels:\n{item}")
        );
        let old = "name: A\nmodels: []\nrules: [x]\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            format!("name: A\nmodels:\n{item}rules: [x]\n")
        );
        let old = "name: A\nmodels:\n- name: other # theirs\n  a: 1\n\n- name: m\n  key: old\n  keep: [1]\n# rules\nrules: [x]\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            "name: A\nmodels:\n- name: other # theirs\n  a: 1\n\n- name: m\n  key: \"${{ secrets.K }}\"\n  keep: [1]\n  can: [\"a\"]\n  more: {\"x\":1}\n# rules\nrules: [x]\n"
        );
        // A file that is a list.
        let edits = [put(&[], "id", json!({"id": "m", "url": "u"}))];
        assert_eq!(
            merged(Format::Yaml, "", &edits).unwrap(),
            "- id: m\n  url: u\n"
        );
        let old = "# mine\n- id: other\n  a: |\n    - id: m\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            format!("{old}- id: m\n  url: u\n")
        );
    }

    #[test]
    fn yaml_keeps_the_comments_of_what_it_changes() {
        let edits = [
            set(&["a"], json!("new")),
            put(
                &["models"],
                "name",
                json!({"name": "m", "url": "u", "roles": ["x"], "more": 1}),
            ),
        ];
        let old = "a: \"x # y\" # mine\nmodels:\n  # above\n  - name: m # its name\n    # its address\n    url: old # was b\n    roles:\n      - y\n\n    # kept\n    keep: 1 # too\n# end\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            "a: new # mine\nmodels:\n  # above\n  - name: m # its name\n    # its address\n    url: u # was b\n    roles: [\"x\"]\n\n    # kept\n    keep: 1 # too\n    more: 1\n# end\n"
        );
        // The field behind the mark is another one, and the mark is wide.
        let old = "a: new\nmodels:\n-   url: old # was b\n    name: m\n";
        assert_eq!(
            merged(Format::Yaml, old, &edits).unwrap(),
            "a: new\nmodels:\n-   url: u # was b\n    name: m\n    roles: [\"x\"]\n    more: 1\n"
        );
    }

    #[test]
    fn the_error_of_a_broken_file_has_its_line_but_not_its_text() {
        let edits = [set(&["a"], json!(1))];
        for (format, text) in [
            (Format::Json, "{\n\"key\": \"secret\" \"secret\"}"),
            (Format::Toml, "b = 1\nkey = \"secret\" \"secret\"\n"),
        ] {
            let error = merged(format, text, &edits).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let edits = [set(&["a"], json!("b"))];
        for (format, old) in [
            (Format::Json, "{\r\n  // mine\r\n  \"c\": 1\r\n}\r\n"),
            (Format::Toml, "# mine\r\nc = 1\r\n"),
            (Format::Yaml, "# mine\r\nc: 1\r\n"),
        ] {
            let new = merged(format, old, &edits).unwrap();
            assert!(!new.replace("\r\n", "").contains('\n'), "{new:?}");
            let plain = merged(format, &old.replace("\r\n", "\n"), &edits).unwrap();
            assert_eq!(new.replace("\r\n", "\n"), plain);
        }
    }

    #[test]
    fn a_value_is_removed_if_it_is_the_expected_one() {
        let remove = |path: &[&str]| {
            let path = path.iter().map(|&key| key.to_owned()).collect();
            [Edit::Remove(path, json!("unused"))]
        };
        for (format, old, path, new) in [
            (
                Format::Json,
                "{\"env\": {\"a\": \"unused\", \"b\": 1}} // mine\n",
                &["env", "a"][..],
                json!({"env": {"b": 1}}),
            ),
            (
                Format::Toml,
                "[env.x]\na = \"unused\"\nb = 1\n",
                &["env", "x", "a"],
                json!({"env": {"x": {"b": 1}}}),
            ),
            (Format::Yaml, "a: unused\nb: 1\n", &["a"], json!({"b": 1})),
        ] {
            let text = merged(format, old, &remove(path)).unwrap();
            assert_eq!(parsed(format, &text).unwrap(), new, "{text}");
            // A key of a person's own remains, and so does a file without the path.
            let own = old.replace("unused", "secret");
            assert_eq!(merged(format, &own, &remove(path)).unwrap(), own);
            assert_eq!(merged(format, "", &remove(path)).unwrap(), "");
        }
    }

    #[test]
    fn yaml_that_cannot_be_changed_safely_is_left_alone() {
        let edits = [
            put(&["models"], "name", json!({"name": "m"})),
            set(&["a"], json!("b")),
        ];
        for old in [
            "models: [{name: other}]\n",
            "{models: []}\n",
            "a: >\n  several\n  lines\n",
            "models:\n  - name: x\n---\nb: 1\n",
        ] {
            let new = merged(Format::Yaml, old, &edits);
            assert!(new.is_err(), "{old} became {new:?}");
        }
    }

    #[test]
    fn a_broken_file_is_an_error() {
        let edits = [set(&["a", "b"], json!(1))];
        for (format, text) in [
            (Format::Json, "{\"a\": "),
            (Format::Json, "[1]"),
            (Format::Json, "{\"a\": 1}"),
            (Format::Toml, "a = "),
            (Format::Toml, "a = 1\n"),
            (Format::Yaml, "a: [1"),
            (Format::Yaml, "- 1\n"),
            (Format::Yaml, "a: 1\n"),
        ] {
            let error = merged(format, text, &edits).expect_err(text);
            assert!(!matches!(error, EditError::Unsafe), "{text}: {error}");
        }
        let lists = [put(&["a"], "id", json!({"id": 1}))];
        assert_eq!(
            merged(Format::Json, "{\"a\": {}}", &lists),
            Err(EditError::Shape("a".to_owned(), "a list"))
        );
    }
}
