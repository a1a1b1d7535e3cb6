//! Grammars: what holds an answer to a JSON schema, to calls, or to a grammar of the client's own.
//!
//! Reading order: `source`, `narrow` and `free` (what is asked for, as text), [`Grammars`]
//! (compiles it, and keeps what was compiled), `machine` (one answer's way through a grammar),
//! `held` (when it begins: after the reasoning, or with a call), `vocabulary` (tokens as bytes),
//! `gbnf` (the language of llama.cpp's grammars). JSON schemas are llguidance's work; why, is in
//! `docs/decisions/0009-grammars.md`.

mod bounds;
mod cache;
mod compile;
mod ends;
mod free;
mod gbnf;
mod held;
mod machine;
mod narrow;
mod source;
mod vocabulary;

pub(crate) use compile::{Grammars, Refused};
pub(crate) use held::{Beginning, Held};
pub(crate) use source::{Calls, Part, Source, Writer};
pub(crate) use vocabulary::{Vocabulary, Words};

#[cfg(test)]
mod tests;
