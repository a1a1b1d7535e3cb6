//! Grammars on a small vocabulary: every byte, some longer tokens, two tokens that end an answer,
//! and markers. No model and no C++.

mod beginnings;
mod bounds;
mod calls;
mod cost;
mod either;
mod ends;
mod forced;
mod free;
mod gbnf;
mod inputs;
mod schemas;

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::Token;
use crate::sample::Constraint;
use crate::syntax::{Begins, Syntax};

const END: Token = 256;
const OTHER_END: Token = 257;
const FIRST_MARKER: Token = 258;
const FIRST_LONGER: Token = FIRST_MARKER + 13;
const MARKERS: [&str; 13] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|constrain|>",
    "<|tool_call|>",
    "<|python_tag|>",
];
const LONGER: [&str; 16] = [
    "{\"", "\": ", "true", "\n\n", "nul", "12", ">{", "ab", "}}", "}\n", "}\n\n", " }", "},",
    "\n  ", "\n}", "  ",
];

fn words() -> Words {
    let bytes = (0..=255).map(|byte: u8| vec![byte]);
    let ends = [b"<end>".to_vec(), b"<stop>".to_vec()];
    let markers = MARKERS.iter().map(|mark| mark.as_bytes().to_vec());
    let longer = LONGER.iter().map(|word| word.as_bytes().to_vec());
    Words {
        tokens: bytes.chain(ends).chain(markers).chain(longer).collect(),
        ends: vec![END, OTHER_END],
        // Markers of a syntax that are also ordinary text stay text.
        markers: MARKERS
            .into_iter()
            .zip(FIRST_MARKER..)
            .chain([("}", Token::from(b'}')), (";", Token::from(b';'))])
            .collect(),
    }
}

fn grammars() -> Grammars {
    Grammars::new(Vocabulary::new(words(), None).unwrap()).unwrap()
}

/// Compiles a grammar outside of a runtime.
fn compile(grammars: &Grammars, source: Source) -> Result<super::compiled::Grammar, CompileError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(grammars.compile(source))
}

fn plain_syntax() -> Syntax {
    Syntax::of("{{ messages }}", |_| false)
}

/// The constraint of an answer that is a value of this schema.
fn of_schema(grammars: &Grammars, schema: &Value) -> Result<AnswerConstraint, CompileError> {
    let writer = Writer {
        syntax: &plain_syntax(),
        vocabulary: grammars.vocabulary(),
    };
    let source = writer.answer(Part::new("value", "the.schema", schema), None);
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    Ok(AnswerConstraint::new(
        grammars.vocabulary(),
        compile(grammars, source)?,
        beginning,
    ))
}

/// The tokens that may come next.
fn allowed(constraint: &mut AnswerConstraint) -> Vec<Token> {
    let mut row = vec![0.0; 256 + 2 + MARKERS.len() + LONGER.len()];
    constraint.mask(&mut row).unwrap();
    (0..)
        .zip(&row)
        .filter(|(_, logit)| logit.is_finite())
        .map(|(token, _)| token)
        .collect()
}

/// The token of an empty line.
const LINES: Token = FIRST_LONGER + 3;

/// The tokens of a text: markers and empty lines as single tokens, the rest byte by byte.
fn tokens(text: &str) -> Vec<Token> {
    let (mut rest, mut tokens) = (text.as_bytes(), Vec::new());
    while let Some(&byte) = rest.first() {
        let known = MARKERS.iter().zip(FIRST_MARKER..).chain([(&"\n\n", LINES)]);
        let marker = known
            .into_iter()
            .find(|(mark, _)| rest.starts_with(mark.as_bytes()));
        let (token, length) =
            marker.map_or((Token::from(byte), 1), |(mark, token)| (token, mark.len()));
        tokens.push(token);
        rest = &rest[length..];
    }
    tokens
}

/// Whether an answer may begin with this text. The error is the position of the first forbidden
/// token.
fn goes_along(constraint: &mut AnswerConstraint, text: &str) -> Result<(), usize> {
    for (place, token) in tokens(text).into_iter().enumerate() {
        if constraint.is_over() || !allowed(constraint).contains(&token) {
            return Err(place);
        }
        constraint.accept(token).unwrap();
    }
    Ok(())
}

/// Whether an answer may be exactly this text.
fn may_be(mut constraint: AnswerConstraint, text: &str) -> bool {
    goes_along(&mut constraint, text).is_ok()
        && (constraint.is_over() || allowed(&mut constraint).contains(&END))
}
