//! `POST /v1/responses`: a dialect of a chat. Its request becomes a chat request, its writer makes
//! events of Responses of a chat's events; no backend knows of it.
//!
//! Reading order: `respond.rs` (`POST /v1/responses` from start to end), `recall.rs` (what a
//! request loads from the store), `ask.rs` (how a request is admitted), `request.rs` (the fields of
//! a request), `items.rs` (input items → messages), `tools.rs` (tools → functions), `names.rs` (a
//! chat's fields by their names here), `shape.rs` and `writer.rs` (events, and the whole response),
//! `called.rs` (calls of functions → items), `truncation.rs` (which messages may be dropped),
//! `sealed.rs` (what a client carries for the server), `summary.rs` and `auto_compaction.rs`
//! (compaction), `mcp.rs` and `server_tools.rs` (tools that the server runs). Those are functions
//! of values. Then what is stored: `turn.rs` (a request with its answer), `live.rs` and
//! `background.rs` (responses that are being made), `abandoned.rs` (those whose server was killed),
//! `accounts.rs` (the listener of their ends), `fetch.rs` (the routes of a stored response),
//! `replay.rs` (a stored response as a stream). `session/` makes responses over a WebSocket.

mod abandoned;
pub(crate) mod accounts;
mod ask;
pub(crate) mod auto_compaction;
pub(crate) mod background;
mod called;
mod compact;
pub(crate) mod compaction_plan;
mod fetch;
pub(crate) mod file_search;
pub(crate) mod ignored;
mod items;
mod lenient;
pub(crate) mod live;
mod mcp;
pub(crate) mod names;
mod recall;
mod replay;
mod request;
mod respond;
pub(crate) mod sealed;
pub(crate) mod server_tools;
pub(crate) mod session;
mod shape;
pub(crate) mod summary;
mod tools;
mod truncation;
pub(crate) mod turn;
pub(crate) mod writer;

pub(crate) use shape::ResponseShape;
