//! GBNF, the language of llama.cpp's grammars: the `grammar` field.
//!
//! `read` makes rules of a text and says where it is wrong; `machine` steps through the rules byte
//! by byte. llama.cpp's own sampler of grammars is left alone: it looks at the whole vocabulary for
//! each token, writes its complaints to a log, and a fault in it would end the process.

mod closure;
mod machine;
mod read;
mod rules;

pub(super) use machine::Machine;
pub(super) use read::read;
