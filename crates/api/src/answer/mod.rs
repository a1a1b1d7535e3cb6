//! What goes out: the events of a backend become JSON or server-sent events.
//!
//! Reading order: `writer.rs` (one writer for each shape of a stream), `chunks.rs`, `chat.rs` and
//! `text.rs` (the two there are), `collect.rs` (answers in one piece), `stream.rs` (pulls events,
//! hands them to a writer), `body.rs` and `ended.rs` (what lasts as long as the answer, and how it
//! ended), `headers.rs`, `refusal.rs`.

pub(crate) mod body;
pub(crate) mod chat;
pub(crate) mod chunks;
pub(crate) mod collect;
pub(crate) mod ended;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod ignored;
pub(crate) mod refusal;
pub(crate) mod stream;
pub(crate) mod text;
pub(crate) mod writer;
