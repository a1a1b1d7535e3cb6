//! OpenAI's API over a backend, as a library: bytes → checked request → events → JSON or SSE.
//!
//! All requests go through one [`Door`]: those of the server's routes, and those of
//! [`OpenAiLayer`], the tower middleware that adds OpenAI's API to a service with Ollama's API.
//!
//! Reading order: `door/` (routes, callers, policy), `generate.rs`, `embeddings.rs` and `count.rs`
//! (one request from start to end), `admit/` (parsing and checks: its first page says which rule goes where),
//! `answer/` (responses and streams), `audio/` (recordings and speech), `stored/` (objects kept
//! between requests), `webhooks/` (calls to clients when these have ended), `error.rs` (the
//! errors that clients see).
#![forbid(unsafe_code)]

mod admit;
mod answer;
mod audio;
mod count;
mod custom_tools;
mod decisions;
mod documents;
mod door;
mod embeddings;
mod error;
mod error_response;
mod field_names;
mod fit;
mod generate;
mod generated;
mod layer;
pub mod mcp;
mod messages;
mod models;
mod moderations;
mod ollama;
mod ollama_api;
mod rerank;
mod responses;
pub mod store;
mod stored;
mod webhooks;
mod wording;

pub use admit::chat::{MAX_STOP_STRINGS, parse_chat};
pub use admit::completion::parse_completion;
pub use answer::body::Body;
pub use answer::ended::{Ended, Outcome};
pub use answer::running::{Running, RunsAt};
pub use documents::{DocumentError, Documents};
pub use door::caller::{BadModelPattern, Caller, ModelPattern};
pub use door::change::DoorChange;
pub use door::meter;
pub use door::policy::{Ceilings, FileLimits, ModelPolicy, Policy, Strictness};
pub use door::routes::Route;
pub use door::{Door, ErrorFormat, RequestId};
pub use error::ApiError;
pub use layer::{EitherBody, OpenAi, OpenAiLayer};
pub use mcp::McpClient;
pub use moderations::format::ModerationFormat;
pub use responses::accounts::{BackgroundListener, EndedResponse};
pub use responses::background::Background;
pub use responses::session::{Create, Session};
pub use store::{Blobs, MemoryBlobs, MemoryStore, Store};
pub use stored::{AnswerLine, AnsweredLine, BatchWork, FindCaller};
