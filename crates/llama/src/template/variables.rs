//! The template variables that a client may set (`chat_template_kwargs`): those that the template
//! reads beside the standard ones.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use loggia_wire::Extra;
use minijinja::value::Object;
use minijinja::{Environment, Value};
use serde_json::Map;

use super::number;

/// The request field that sets variables.
const FIELD: &str = "chat_template_kwargs";

/// Variables that a client may not set, because their values come from other fields of the request
/// (`enable_thinking` and similar ones from `reasoning_effort`) or from the model.
const RESERVED: [&str; 14] = [
    "messages",
    "tools",
    "custom_tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "now_in_seconds",
    "enable_thinking",
    "thinking",
    "reasoning_effort",
];

/// The variables that the templates with these names read and never set, found by static analysis.
/// A variable that a template sets itself in some cases (`{% set x = x | default(1) %}`) is found
/// by [`Lookups`].
pub(super) fn read_by(environment: &Environment<'_>, names: &[&str]) -> BTreeSet<String> {
    names
        .iter()
        .filter_map(|name| environment.get_template(name).ok())
        .flat_map(|template| {
            let mut read = template.undeclared_variables(false);
            assigned(template.source(), &["set", "macro", "for"])
                .for_each(|name| _ = read.remove(name));
            read
        })
        .collect()
}

/// The names that these tags of a template assign.
fn assigned<'a>(source: &'a str, tags: &'static [&str]) -> impl Iterator<Item = &'a str> {
    let all = source.split("{%").skip(1);
    all.flat_map(|tag| {
        let tag = tag.trim_start_matches(['-', '+']).trim_start();
        let tag = tag.split_once(char::is_whitespace);
        let names = match tag.filter(|(tag, _)| tags.contains(tag)) {
            Some(("set", rest)) => rest.split(['=', '%', '|']).next(),
            Some(("macro", rest)) => rest.split('(').next(),
            Some(("for", rest)) => rest.split(" in ").next(),
            _ => None,
        };
        names.unwrap_or_default().split(',').map(str::trim)
    })
}

/// The variables among these that a client may set.
pub(super) fn settable(
    environment: &Environment<'_>,
    read: impl IntoIterator<Item = String>,
) -> BTreeSet<String> {
    let functions: BTreeSet<&str> = environment.globals().map(|(name, _)| name).collect();
    let mut settable: BTreeSet<String> = read
        .into_iter()
        .filter(|name| !RESERVED.contains(&name.as_str()) && !functions.contains(name.as_str()))
        .collect();
    // A macro that calls itself is looked up before it is declared, so it would seem to be a
    // variable.
    for (_, template) in environment.templates() {
        assigned(template.source(), &["macro"]).for_each(|name| _ = settable.remove(name));
    }
    settable
}

/// The variables that a request sets, restricted to the settable ones.
pub(super) fn of_request(extra: &Extra, settable: &BTreeSet<String>) -> Value {
    let all = extra.get(FIELD).and_then(serde_json::Value::as_object);
    let set: Map<String, serde_json::Value> = all
        .into_iter()
        .flatten()
        .filter(|(name, _)| settable.contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    number::value(&serde_json::Value::Object(set).to_string()).unwrap_or_default()
}

/// Variables without values, which record the names that were looked up.
#[derive(Debug, Default)]
pub(super) struct Lookups(Mutex<BTreeSet<String>>);

impl Lookups {
    /// The names that were looked up.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Object for Lookups {
    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        if let Some(name) = name.as_str() {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.to_owned());
        }
        None
    }
}
