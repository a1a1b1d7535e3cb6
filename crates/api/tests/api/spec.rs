//! Compares `docs/dialects.md` with OpenAI's published specification, if `OPENAI_SPEC` is the path
//! of its file.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Returns the names of a schema's properties, including those of the schemas it is composed of.
fn properties(spec: &Value, name: &str) -> Vec<String> {
    let schema = &spec["components"]["schemas"][name];
    let own = |schema: &Value| {
        schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect()
    };
    let mut names: Vec<String> = own(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        match part["$ref"]
            .as_str()
            .and_then(|reference| reference.rsplit('/').next())
        {
            Some(other) => names.extend(properties(spec, other)),
            None => names.extend::<Vec<String>>(own(part)),
        }
    }
    names
}

/// Returns the fields of an OpenAI request that a table in the docs does not list. Empty without a
/// specification.
fn missing(schema: &str, least: usize, table: &str) -> Vec<String> {
    let Ok(path) = std::env::var("OPENAI_SPEC") else {
        println!("skipped: OPENAI_SPEC does not name OpenAI's specification");
        return Vec::new();
    };
    let spec: Value =
        serde_json::from_slice(&std::fs::read(path).expect("the file that OPENAI_SPEC names"))
            .expect("JSON");
    let mut names = properties(&spec, schema);
    assert!(names.len() > least, "only {names:?}");
    names.retain(|name| !table.contains(&format!("`{name}`")));
    names
}

#[test]
fn no_field_of_the_chat_request_is_missing_from_the_table() {
    let table = include_str!("../../../../docs/dialects.md");
    let missing = missing("CreateChatCompletionRequest", 30, table);
    assert!(missing.is_empty(), "not in docs/dialects.md: {missing:?}");
}

#[test]
fn no_field_of_the_completion_request_is_missing_from_its_own_table() {
    let all = include_str!("../../../../docs/dialects.md");
    let (_, table) = all
        .split_once("The older completions\n")
        .expect("a part for them");
    let missing = missing("CreateCompletionRequest", 15, table);
    assert!(missing.is_empty(), "not in docs/dialects.md: {missing:?}");
}

#[test]
fn no_field_of_the_request_for_embeddings_is_missing_from_its_own_table() {
    let all = include_str!("../../../../docs/dialects.md");
    let (_, table) = all
        .split_once("## 7. Embeddings\n")
        .expect("a part for them");
    let missing = missing("CreateEmbeddingRequest", 4, table);
    assert!(missing.is_empty(), "not in docs/dialects.md: {missing:?}");
}

#[test]
fn no_field_of_the_request_for_a_response_is_missing_from_its_own_table() {
    let all = include_str!("../../../../docs/dialects.md");
    let (_, table) = all
        .split_once("## 9. Responses\n")
        .expect("a part for them");
    let missing = missing("CreateResponse", 25, table);
    assert!(missing.is_empty(), "not in docs/dialects.md: {missing:?}");
}

/// Collects the words of all closed enumerations in a schema and in the schemas that it refers to.
fn words(spec: &Value, schema: &Value, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        if seen.insert(name.to_owned()) {
            words(spec, &spec["components"]["schemas"][name], seen, found);
        }
        return;
    }
    found.extend(
        schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    let alternatives = ["allOf", "anyOf", "oneOf"]
        .iter()
        .flat_map(|key| schema[key].as_array().into_iter().flatten());
    let alternatives: Vec<&Value> = alternatives.collect();
    // If any string is allowed too, the list of names is not closed: models, voices.
    let is_open = alternatives
        .iter()
        .any(|one| one["type"] == "string" && one.get("enum").is_none());
    let inside = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let inside = inside.chain(schema.get("items"));
    let alternatives = alternatives
        .into_iter()
        .filter(|one| !is_open || one.get("enum").is_none());
    inside
        .chain(alternatives)
        .for_each(|one| words(spec, one, seen, found));
}

#[test]
fn every_word_of_the_chat_request_is_known_somewhere() {
    let Ok(path) = std::env::var("OPENAI_SPEC") else {
        println!("skipped: OPENAI_SPEC does not name OpenAI's specification");
        return;
    };
    let spec: Value =
        serde_json::from_slice(&std::fs::read(path).expect("the file that OPENAI_SPEC names"))
            .expect("JSON");
    let mut found = BTreeSet::new();
    let request = &spec["components"]["schemas"]["CreateChatCompletionRequest"];
    words(&spec, request, &mut BTreeSet::new(), &mut found);
    assert!(found.len() > 40, "only {found:?}");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = sources(&crates.join("api/src")) + &sources(&crates.join("wire/src/openai"));
    // The fields of a tool of another type are refused together with the tool.
    let of_custom_tools = ["grammar", "lark", "regex"];
    found.retain(|word| {
        !of_custom_tools.contains(&word.as_str()) && !sources.contains(&format!("\"{word}\""))
    });
    assert!(found.is_empty(), "not in words.rs or a type: {found:?}");
}

/// Returns the text of all Rust files below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a text"));
        }
    }
    text
}

/// Returns the text of the tests with Python clients in a folder.
fn client_tests(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .map(|path| std::fs::read_to_string(path).expect("a text"))
        .collect()
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tests = sources(&crates) + &client_tests(&crates.join("../tests/clients"));
    let table = include_str!("../../../../docs/dialects.md");
    let named = table
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() > 3);
    let mut counted = 0;
    for name in named.filter(|word| {
        word.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }) {
        let is_there = ["fn", "def"].map(|word| tests.contains(&format!("{word} {name}(")));
        assert!(is_there.contains(&true), "no test {name}");
        counted += 1;
    }
    assert!(counted > 30, "only {counted} tests are named");
}
