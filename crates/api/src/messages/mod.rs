//! `POST /v1/messages`, Anthropic's Messages API: a dialect of a chat. Its request becomes a chat
//! request, and its writer makes Anthropic's events of a chat's events. No backend knows of it.
//!
//! Reading order: `ask.rs` (admission and answer), `request.rs` (the fields of a request),
//! `turns.rs` and `blocks.rs` (messages and blocks → a chat's messages and parts), `tools.rs` and
//! `client_tools.rs` (tools → functions), `names.rs` (names of fields in errors and lists),
//! `shape.rs` and `writer.rs` (the stream, and the complete message), `error.rs` (Anthropic's
//! errors), `models.rs` (lists of models). All but `ask.rs` are functions of values.

mod ask;
mod blocks;
mod client_tools;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod names;
mod request;
mod shape;
mod tools;
mod turns;
pub(crate) mod writer;

pub(crate) use ask::AskedMessage;
pub(crate) use shape::MessageShape;
