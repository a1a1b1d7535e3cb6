//! Unusual conversations that OpenAI's API accepts, with every available template: each is
//! rendered, and all of its contents are shown.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::families::folder;
use super::*;

/// The parts of a conversation that must be shown.
const SYSTEM: &str = "SYSTEM-TEXT";
const LATER: &str = "LATER-SYSTEM";
const LAST: &str = "LAST-QUESTION";
const DESCRIBED: &str = "DESCRIBED-TOOL";
const NAMED: &str = "named_tool";
const ARGUMENT: &str = "AN-ARGUMENT";
const RESULT: &str = "A-RESULT";

/// All templates by name: those in the repository, and those in the folder in `LOGGIA_TEMPLATES`.
fn templates() -> BTreeMap<String, String> {
    let elsewhere = std::env::var_os("LOGGIA_TEMPLATES").map(std::path::PathBuf::from);
    let files = [folder()]
        .into_iter()
        .chain(elsewhere)
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let paths = paths.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jinja")
    });
    paths
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect()
}

fn say(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn calls(all: &[(&str, &str, &str)]) -> Value {
    let call = |(id, name, arguments): &(&str, &str, &str)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    json!({"role": "assistant", "content": null, "tool_calls": all.iter().map(call).collect::<Vec<_>>()})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": RESULT})
}

/// Conversations, each with a name for what is unusual about it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn conversations() -> Vec<(String, Vec<Value>)> {
    let last = || say("user", LAST);
    let (a, b) = (say("user", "A"), say("assistant", "B"));
    let plain = [
        ("plain", vec![last()]),
        ("system", vec![say("system", SYSTEM), last()]),
        ("developer", vec![say("developer", SYSTEM), last()]),
        (
            "system later",
            vec![
                say("system", SYSTEM),
                a.clone(),
                b.clone(),
                say("system", LATER),
                last(),
            ],
        ),
        (
            "only later system",
            vec![a.clone(), b.clone(), say("system", LATER), last()],
        ),
        (
            "system at the end",
            vec![say("system", SYSTEM), last(), say("system", LATER)],
        ),
        (
            "system after an answer at the end",
            vec![last(), b.clone(), say("developer", LATER)],
        ),
        (
            "two systems",
            vec![say("system", SYSTEM), say("developer", LATER), last()],
        ),
        (
            "three systems apart",
            vec![
                say("system", SYSTEM),
                a.clone(),
                say("system", LATER),
                b.clone(),
                say("system", LATER),
                last(),
            ],
        ),
        ("only system", vec![say("system", SYSTEM)]),
        (
            "only systems",
            vec![say("system", SYSTEM), say("system", LATER)],
        ),
        ("system and answer", vec![say("system", SYSTEM), b.clone()]),
        ("two users", vec![a.clone(), last()]),
        (
            "three users and a system",
            vec![say("system", SYSTEM), a.clone(), a.clone(), last()],
        ),
        (
            "two answers",
            vec![a.clone(), b.clone(), say("assistant", "C"), last()],
        ),
        ("answer first", vec![b.clone(), last()]),
        (
            "system and answer first",
            vec![say("system", SYSTEM), b.clone(), last()],
        ),
        ("only answer", vec![b.clone()]),
        (
            "empty answer",
            vec![a.clone(), say("assistant", ""), last()],
        ),
        (
            "null answer",
            vec![
                a.clone(),
                json!({"role": "assistant", "content": null}),
                last(),
            ],
        ),
        (
            "blank answer",
            vec![a.clone(), say("assistant", " \n"), last()],
        ),
        (
            "refusal",
            vec![
                a.clone(),
                json!({"role": "assistant", "refusal": "No."}),
                last(),
            ],
        ),
        ("empty user", vec![say("user", ""), b.clone(), last()]),
        ("empty system", vec![say("system", ""), last()]),
        (
            "empty last user",
            vec![say("system", SYSTEM), a.clone(), b.clone(), say("user", "")],
        ),
        ("ends with an answer", vec![last(), b.clone()]),
        (
            "ends with an empty answer",
            vec![last(), say("assistant", "")],
        ),
        (
            "parts",
            vec![
                json!({"role": "system", "content": [{"type": "text", "text": SYSTEM}]}),
                json!({"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": LAST}]}),
            ],
        ),
        (
            "parts of two users",
            vec![
                json!({"role": "user", "content": [{"type": "text", "text": "A"}]}),
                last(),
            ],
        ),
        (
            "reasoning",
            vec![
                a.clone(),
                json!({"role": "assistant", "content": "B", "reasoning_content": "R"}),
                last(),
            ],
        ),
        (
            "names",
            vec![
                json!({"role": "user", "name": "bob", "content": "A"}),
                json!({"role": "user", "name": "eve", "content": LAST}),
            ],
        ),
        (
            "everything odd",
            vec![
                b.clone(),
                say("system", LATER),
                say("assistant", ""),
                a.clone(),
                a.clone(),
                say("system", SYSTEM),
                last(),
            ],
        ),
        (
            "think tags",
            vec![a.clone(), say("assistant", "<think>hm</think>B"), last()],
        ),
        (
            "function result without a call",
            vec![
                a.clone(),
                json!({"role": "tool", "name": "f", "tool_call_id": "call_9", "content": RESULT}),
                last(),
            ],
        ),
    ];
    let mut all: Vec<(String, Vec<Value>)> = plain
        .into_iter()
        .map(|(name, messages)| (name.to_owned(), messages))
        .collect();
    all.extend(
        ARGUMENTS
            .into_iter()
            .flat_map(|(what, arguments)| with_calls(what, arguments)),
    );
    all
}

/// Conversations with calls that have these arguments.
fn with_calls(what: &str, arguments: &str) -> Vec<(String, Vec<Value>)> {
    let last = || say("user", LAST);
    let (a, b) = (say("user", "A"), say("assistant", "B"));
    let mut all = Vec::new();
    let call = || calls(&[("call_1234567890", NAMED, arguments)]);
    let answered = || [last(), call(), result("call_1234567890")].to_vec();
    let mut add =
        |shape: &str, messages: Vec<Value>| all.push((format!("{shape}, {what}"), messages));
    add("call and result", answered());
    add(
        "call, result, answer, user",
        [
            vec![a.clone(), call(), result("call_1234567890"), b.clone()],
            vec![last()],
        ]
        .concat(),
    );
    add(
        "call, result, user",
        [
            vec![a.clone(), call(), result("call_1234567890")],
            vec![last()],
        ]
        .concat(),
    );
    add(
        "call, result, system, user",
        [
            vec![
                a.clone(),
                call(),
                result("call_1234567890"),
                say("system", LATER),
            ],
            vec![last()],
        ]
        .concat(),
    );
    add("text beside a call", {
        let mut beside = call();
        beside["content"] = json!("Let me see.");
        beside["reasoning_content"] = json!("Hm.");
        vec![last(), beside, result("call_1234567890")]
    });
    add(
        "answer and call",
        vec![last(), b.clone(), call(), result("call_1234567890")],
    );
    add(
        "call first",
        vec![call(), result("call_1234567890"), last()],
    );
    add(
        "system and call first",
        vec![
            say("system", SYSTEM),
            call(),
            result("call_1234567890"),
            last(),
        ],
    );
    add(
        "two calls",
        vec![
            last(),
            calls(&[("call_1", NAMED, arguments), ("call_2", "g", arguments)]),
            result("call_2"),
            result("call_1"),
        ],
    );
    add(
        "call after call",
        vec![
            last(),
            call(),
            result("call_1234567890"),
            calls(&[("call_2", "g", arguments)]),
            result("call_2"),
        ],
    );
    add(
        "result of parts",
        vec![
            last(),
            call(),
            json!({"role": "tool", "tool_call_id": "call_1234567890", "content": [{"type": "text", "text": RESULT}]}),
        ],
    );
    add(
        "empty result",
        vec![
            last(),
            call(),
            json!({"role": "tool", "tool_call_id": "call_1234567890", "content": ""}),
        ],
    );
    all
}

const ARGUMENTS: [(&str, &str); 9] = [
    ("arguments", "{\"of\": \"AN-ARGUMENT\"}"),
    ("none", "{}"),
    ("empty", ""),
    ("null", "null"),
    ("cut", "{\"of\": \"AN-ARGUMENT"),
    ("text", "AN-ARGUMENT"),
    ("list", "[\"AN-ARGUMENT\"]"),
    (
        "long number",
        "{\"of\": 25227143063332189585438, \"n\": null, \"b\": true, \"l\": [1, {\"x\": \"y\"}], \"o\": {}}",
    ),
    ("encoded twice", "\"{\\\"of\\\": \\\"AN-ARGUMENT\\\"}\""),
];

/// Lists of tools, each with a name for what is unusual about it.
fn tools() -> Vec<(&'static str, Value)> {
    let function = |function: Value| json!([{"type": "function", "function": function}]);
    let with = |parameters: Value| {
        function(json!({"name": NAMED, "description": DESCRIBED, "parameters": parameters}))
    };
    vec![
        ("no tools", json!([])),
        (
            "tool",
            with(
                json!({"type": "object", "properties": {"of": {"type": "string", "description": "What."}}, "required": ["of"]}),
            ),
        ),
        (
            "no description",
            function(
                json!({"name": NAMED, "parameters": {"type": "object", "properties": {"of": {"type": "string"}}}}),
            ),
        ),
        (
            "no parameters",
            function(json!({"name": NAMED, "description": DESCRIBED})),
        ),
        ("bare", function(json!({"name": NAMED}))),
        ("empty parameters", with(json!({}))),
        ("no properties", with(json!({"type": "object"}))),
        ("no type", with(json!({"properties": {"of": {}}}))),
        (
            "properties without types",
            with(
                json!({"type": "object", "properties": {"of": {"description": "X"}, "in": {}, "is": true}}),
            ),
        ),
        (
            "unions",
            with(
                json!({"type": "object", "properties": {"of": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "in": {"type": ["string", "null"], "default": null}, "is": {"enum": [1, "a", null]}, "at": {"$ref": "#/$defs/A"}, "as": {"const": 5},
            "list": {"type": "array"}, "of_lists": {"type": "array", "items": {"type": "array", "items": {}}}, "map": {"type": "object", "additionalProperties": {"type": "number"}},
            "inner": {"type": "object", "properties": {"x": {"oneOf": [{"type": "integer"}, {"type": "array", "items": true}]}}}},
            "$defs": {"A": {"type": "object", "properties": {"b": {"type": "integer", "minimum": 0}}}}}),
            ),
        ),
        (
            "a union at the root",
            with(
                json!({"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object"}]}),
            ),
        ),
        (
            "strict",
            function(
                json!({"name": NAMED, "description": DESCRIBED, "strict": true,
            "parameters": {"type": "object", "properties": {}, "additionalProperties": false, "required": []}}),
            ),
        ),
    ]
}

/// Returns the error of a rendering, if it has one.
fn fault(
    template: &Template,
    messages: &[Value],
    tools: &Value,
    template_shows: usize,
) -> Option<String> {
    let messages: Vec<Message> = serde_json::from_value(json!(messages)).unwrap();
    let tools: Vec<Tool> = serde_json::from_value(tools.clone()).unwrap();
    let now = "2026-03-09T12:00:00Z".parse().unwrap();
    let shown = if template.shows_tools() {
        &tools[..]
    } else {
        &[]
    };
    let text = match template.render(&Conversation {
        messages: &messages,
        tools: shown,
        effort: None,
        continues: false,
        variables: &minijinja::Value::default(),
        now,
    }) {
        Ok(rendered) => rendered.text,
        Err(error) => return Some(error.to_string()),
    };
    let all = json!(messages).to_string();
    for said in [SYSTEM, LATER, LAST, ARGUMENT, RESULT] {
        if all.contains(said) && !text.contains(said) {
            return Some(format!("leaves out {said}"));
        }
    }
    let described = text.matches(DESCRIBED).count();
    let is_described = json!(shown).to_string().contains(DESCRIBED);
    if described != usize::from(is_described) * template_shows {
        return Some(format!("shows the tool {described} times"));
    }
    if !shown.is_empty() && !text.contains(NAMED) {
        return Some("leaves out the tool".to_owned());
    }
    None
}

#[test]
fn every_template_takes_what_openai_takes_and_shows_it() {
    let (conversations, tools) = (conversations(), tools());
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (name, source) in templates() {
        let special = Special {
            bos: "<s>".to_owned(),
            eos: "</s>".to_owned(),
        };
        let template = Template::new(Some(&source), None, special).unwrap();
        if !template.traits.works {
            // This template needs variables that only its vendor's own tools pass.
            println!("{name}: skipped, it renders nothing");
            continue;
        }
        // This template always shows each tool twice.
        let template_shows = if name == "meetkai-functionary-medium-v3.1" {
            2
        } else {
            1
        };
        for (what, messages) in &conversations {
            for (with, tools) in &tools {
                tried += 1;
                if let Some(fault) = fault(&template, messages, tools, template_shows) {
                    wrong.push(format!("{name}: {what}: {with}: {fault}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
