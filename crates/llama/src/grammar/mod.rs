//! Grammars: they constrain an answer to a JSON schema, to calls, or to the client's own grammar.
//!
//! Reading order: `source`, `part`, `narrow` and `free` (the text of a grammar), [`Grammars`]
//! (compiles and caches), `compiled` (a compiled grammar), `machine` (the state of a grammar during
//! one answer), `inputs` (the texts of custom tools), `answer_constraint` (when the grammar begins: after the
//! reasoning, or with a call), `vocabulary` (tokens as bytes), `ends` and `token_kinds` (limits that
//! a grammar does not have), `gbnf` (the language of llama.cpp's grammars). llguidance handles JSON
//! schemas; `docs/decisions/0009-grammars.md` has the reasons.

mod answer_constraint;
mod bounds;
mod cache;
mod compile;
mod compiled;
mod ends;
mod free;
mod gbnf;
mod inputs;
mod machine;
mod narrow;
mod part;
mod source;
mod token_kinds;
mod vocabulary;

pub(crate) use answer_constraint::{AnswerConstraint, Beginning};
pub(crate) use compile::{CompileError, Grammars};
pub(crate) use free::text_or_calls;
pub(crate) use part::Part;
pub(crate) use source::{Calls, Source, Writer};
pub(crate) use vocabulary::{Vocabulary, Words};

#[cfg(test)]
mod tests;
