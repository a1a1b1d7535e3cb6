//! `POST /v1/responses`: a dialect of a chat. Its request becomes a chat request, its writer makes
//! events of Responses of a chat's events; no backend knows of it.
//!
//! Reading order: `ask.rs` (how it is let in and answered), `request.rs` (the fields of a request),
//! `items.rs` (input items → messages), `tools.rs` (tools → functions), `names.rs` (a chat's fields
//! by their names here), `shape.rs` and `writer.rs` (events, and the whole response), `called.rs` (calls of
//! functions → items). All but `ask.rs` are functions of values.

mod ask;
mod called;
pub(crate) mod ignored;
mod items;
pub(crate) mod names;
mod request;
mod shape;
mod tools;
pub(crate) mod writer;

pub(crate) use ask::AskedResponse;
pub(crate) use shape::ResponseShape;
