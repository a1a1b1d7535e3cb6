//! GBNF, the language of llama.cpp's grammars: the `grammar` field.
//!
//! `read` parses a text into rules and reports where it is invalid. `machine` steps through the
//! rules byte by byte. llama.cpp's own grammar sampler is not used: it scans the whole vocabulary
//! for each token, reports errors only to a log, and a fault in it would end the process.

mod closure;
mod machine;
mod read;
mod rules;

pub(super) use machine::Machine;
pub(super) use read::read;
