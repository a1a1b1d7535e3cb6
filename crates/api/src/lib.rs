//! OpenAI's API as a library over a backend: bytes → checked request → events → JSON or SSE.
//!
//! Everything goes through one [`Door`]: the server's routes and [`OpenAiLayer`], the tower
//! middleware that makes any service speaking Ollama's API speak OpenAI's.
//!
//! Reading order: `door.rs` (what is served), `chat.rs` (one chat or completion: parse, find, ask,
//! answer), `embedding.rs` (the same for vectors), `request.rs`, `completion.rs`, `fields.rs` and
//! `engine_options.rs` (what is let in), `collect.rs` and `encode.rs` (what goes out), `error.rs`
//! (what a client sees when it goes wrong).
#![forbid(unsafe_code)]

mod answer;
mod body;
mod caller;
mod ceilings;
mod chat;
mod collect;
mod completion;
mod conversation;
mod door;
mod embedding;
mod encode;
mod engine_options;
mod error;
mod fields;
mod files;
mod id;
mod ignored;
mod layer;
mod misplaced;
mod original;
mod packed;
mod policy;
mod read;
mod reasoning;
mod request;
mod route;
mod schema;
mod stream;
mod text;
mod together;
mod tool_choice;
mod unseen;
mod words;

pub use body::{Body, Ended, Outcome};
pub use caller::{BadModelPattern, Caller, ModelPattern};
pub use completion::parse_completion;
pub use door::{Door, RequestId};
pub use error::ApiError;
pub use layer::{EitherBody, OpenAi, OpenAiLayer};
pub use policy::{Ceilings, ModelPolicy, Policy, Strictness};
pub use request::{MAX_STOP_STRINGS, parse_chat};
pub use route::Route;
