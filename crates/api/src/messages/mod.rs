//! `POST /v1/messages`, Anthropic's Messages API: a dialect of a chat. Its request becomes a chat
//! request, and its writer makes Anthropic's events of a chat's events. No backend knows of it.
//!
//! Reading order: `respond.rs` and `ask.rs` (a request from start to end), `thread.rs` (conversations
//! that the server keeps), `request.rs` (the fields of a request),
//! `turns.rs` and `blocks.rs` (messages and blocks → a chat's messages and parts), `tools.rs` and
//! `client_tools.rs` (tools → functions), `compaction.rs` (summaries), `edits.rs`, `apply_edits.rs`
//! and `compact_edit.rs` (`context_management`), `names.rs` (names of fields in errors and lists),
//! `signature.rs` (reasoning that comes back), `shape.rs` and `writer.rs` (the stream, and the
//! complete message), `error.rs` (Anthropic's errors), `models.rs` (lists of models). All but the
//! first three are functions of values.

pub(crate) mod apply_edits;
mod ask;
mod blocks;
mod client_tools;
mod compact_edit;
mod compaction;
pub(crate) mod edits;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod names;
mod request;
mod respond;
mod shape;
mod signature;
pub(crate) mod thread;
mod tools;
mod turns;
pub(crate) mod writer;

pub(crate) use shape::MessageShape;
