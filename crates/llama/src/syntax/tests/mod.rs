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

fn reader(template: &str, pace: Pace) -> Reader {
    Reader::new(
        Syntax::of(template, |_| false),
        offered(),
        Begins::Text,
        pace,
    )
}

/// Parses all pieces, and merges neighbours of the same kind.
fn read(reader: &mut Reader, pieces: impl Iterator<Item = String>) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let mut all: Vec<Said> = pieces.flat_map(|piece| reader.push(&piece)).collect();
    all.extend(reader.finish());
    for next in all {
        match (said.last_mut(), next) {
            (Some(Said::Text(text)), Said::Text(more))
            | (Some(Said::Reasoning(text)), Said::Reasoning(more)) => {
                text.push_str(&more);
            }
            (
                Some(Said::CallArguments { index, more: text }),
                Said::CallArguments { index: same, more },
            ) if *index == same => {
                text.push_str(&more);
            }
            (_, next) => said.push(next),
        }
    }
    said
}

/// The result for a text that arrives in pieces of `size` characters.
fn cut(template: &str, text: &str, size: usize, pace: Pace) -> Vec<Said> {
    let characters: Vec<char> = text.chars().collect();
    read(
        &mut reader(template, pace),
        characters.chunks(size).map(|piece| piece.iter().collect()),
    )
}

/// The result for a text, which must be the same wherever the text is split.
fn said(template: &str, text: &str) -> Vec<Said> {
    let whole = cut(template, text, usize::MAX, Pace::AsItComes);
    for size in 1..=7 {
        assert_eq!(
            cut(template, text, size, Pace::AsItComes),
            whole,
            "{text} in pieces of {size}"
        );
    }
    whole
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

fn reasoning(text: &str) -> Said {
    Said::Reasoning(text.to_owned())
}

fn call(index: u32, name: &str, arguments: &str) -> [Said; 2] {
    [
        Said::CallBegun {
            index,
            name: name.to_owned(),
        },
        Said::CallArguments {
            index,
            more: arguments.to_owned(),
        },
    ]
}

fn calls(calls: &[(&str, &str)]) -> Vec<Said> {
    calls
        .iter()
        .zip(0..)
        .flat_map(|((name, arguments), index)| call(index, name, arguments))
        .collect()
}
