//! Any text as the output of a model, in the syntax of each family of tool calls. The result must
//! not depend on where the text is split, arguments must be JSON objects, and without a call no
//! text may be lost.
//!
//! The modules are included from the engine's crate file by file, because the crate itself compiles
//! llama.cpp.
#![no_main]

#[path = "../../crates/llama/src/syntax/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "what the engine's crate uses of it and this target does not"
)]
mod syntax;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use loggia_wire::openai::Tool;
use serde_json::{Value, json};
use syntax::{Begins, CallRelease, Offered, Parsed, Reader, Syntax};

/// Minimal templates, each with only what identifies its family.
const FAMILIES: [&str; 8] = [
    "tools <tool_call> <think>",
    "tools <|python_tag|>",
    "tools [TOOL_CALLS] [THINK]",
    "tools ```tool_code",
    "tools <|tool_call|>",
    "tools <｜tool▁calls▁begin｜> </think>",
    "tools <|channel|> <|message|>",
    "tools",
];

fn offered() -> Arc<Offered> {
    let tools: Vec<Tool> = serde_json::from_value(json!([
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}}}}},
        {"type": "function", "function": {"name": "time"}}
    ]))
    .expect("two tools");
    Arc::new(Offered::of(&tools))
}

/// Parses these pieces. Neighbouring pieces of the same kind are joined.
fn read(family: &str, release: CallRelease, begins: Begins, pieces: &[&str]) -> Vec<Parsed> {
    let mut reader = Reader::new(Syntax::of(family, |_| false), offered(), begins, release);
    let mut all: Vec<Parsed> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    all.extend(reader.finish());
    let mut said: Vec<Parsed> = Vec::new();
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

fuzz_target!(|input: (u8, bool, bool, usize, &str)| {
    let (family, whole, reasons, cut, text) = input;
    let family = FAMILIES[usize::from(family) % FAMILIES.len()];
    let release = if whole {
        CallRelease::Complete
    } else {
        CallRelease::Incremental
    };
    let begins = if reasons {
        Begins::Reasoning
    } else {
        Begins::Text
    };
    let mut at = cut.checked_rem(text.len() + 1).unwrap_or(0);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let said = read(family, release, begins, &[text]);
    assert_eq!(
        read(family, release, begins, &[&text[..at], &text[at..]]),
        said
    );
    for (place, piece) in said.iter().enumerate() {
        match piece {
            Parsed::CallArguments { more, .. } => {
                assert!(
                    serde_json::from_str::<Value>(more).is_ok_and(|value| value.is_object()),
                    "{more}"
                );
            }
            Parsed::CallBegun { .. } => {
                assert!(
                    matches!(said.get(place + 1), Some(Parsed::CallArguments { .. })),
                    "{said:?}"
                );
            }
            Parsed::Text(_) | Parsed::Reasoning(_) => {}
        }
    }
});
