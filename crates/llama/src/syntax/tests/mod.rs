//! Model output in the syntax of each family, and the parsed result. The texts imitate the families
//! and are not copied from models.

mod any_text;
mod families;

use std::sync::Arc;

use loggia_wire::openai::Tool;
use serde_json::json;

use super::*;

/// Minimal templates, each with only the features by which a family is recognized.
const HERMES: &str = "tools <tool_call> <think>";
const LLAMA: &str = "tools <|python_tag|>";
const MISTRAL: &str = "tools [TOOL_CALLS] [THINK]";
const FENCE: &str = "tools ```tool_code";
const PHI: &str = "tools <|tool_call|>";
const DEEPSEEK: &str = "tools <｜tool▁calls▁begin｜> </think>";
const HARMONY: &str = "tools <|channel|> <|message|>";
const OTHER: &str = "tools";
const FAMILIES: [&str; 8] = [HERMES, LLAMA, MISTRAL, FENCE, PHI, DEEPSEEK, HARMONY, OTHER];

fn offered() -> Arc<Offered> {
    let tools: Vec<Tool> = serde_json::from_value(json!([
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}}}}},
        {"type": "function", "function": {"name": "time"}}
    ]))
    .unwrap();
    Arc::new(Offered::of(&tools))
}

fn reader(template: &str, release: CallRelease) -> Reader {
    Reader::new(
        Syntax::of(template, |_| false),
        offered(),
        Begins::Text,
        release,
    )
}

/// Parses all pieces, and merges neighbours of the same kind.
fn read(reader: &mut Reader, pieces: impl Iterator<Item = String>) -> Vec<Parsed> {
    let mut said: Vec<Parsed> = Vec::new();
    let mut all: Vec<Parsed> = pieces.flat_map(|piece| reader.push(&piece)).collect();
    all.extend(reader.finish());
    for next in all {
        match (said.last_mut(), next) {
            (Some(Parsed::Text(text)), Parsed::Text(more))
            | (Some(Parsed::Reasoning(text)), Parsed::Reasoning(more)) => {
                text.push_str(&more);
            }
            (
                Some(Parsed::CallArguments { index, more: text }),
                Parsed::CallArguments { index: same, more },
            ) if *index == same => {
                text.push_str(&more);
            }
            (_, next) => said.push(next),
        }
    }
    said
}

/// The result for a text that arrives in pieces of `size` characters.
fn cut(template: &str, text: &str, size: usize, release: CallRelease) -> Vec<Parsed> {
    let characters: Vec<char> = text.chars().collect();
    read(
        &mut reader(template, release),
        characters.chunks(size).map(|piece| piece.iter().collect()),
    )
}

/// The result for a text, which must be the same wherever the text is split.
fn said(template: &str, text: &str) -> Vec<Parsed> {
    let whole = cut(template, text, usize::MAX, CallRelease::Incremental);
    for size in 1..=7 {
        assert_eq!(
            cut(template, text, size, CallRelease::Incremental),
            whole,
            "{text} in pieces of {size}"
        );
    }
    whole
}

fn text(text: &str) -> Parsed {
    Parsed::Text(text.to_owned())
}

fn reasoning(text: &str) -> Parsed {
    Parsed::Reasoning(text.to_owned())
}

fn call(index: u32, name: &str, arguments: &str) -> [Parsed; 2] {
    [
        Parsed::CallBegun {
            index,
            name: name.to_owned(),
        },
        Parsed::CallArguments {
            index,
            more: arguments.to_owned(),
        },
    ]
}

fn calls(calls: &[(&str, &str)]) -> Vec<Parsed> {
    calls
        .iter()
        .zip(0..)
        .flat_map(|((name, arguments), index)| call(index, name, arguments))
        .collect()
}
