//! OpenAI's API as a library over a backend: bytes → checked request → events → JSON or SSE.
//!
//! Everything goes through one [`Door`]: the server's routes and [`OpenAiLayer`], the tower
//! middleware that makes any service speaking Ollama's API speak OpenAI's.
//!
//! Reading order: `door/` (which requests are served, and for whom), `generate.rs` and `embeddings.rs`
//! (one request: parse, find, ask, answer), `admit/` (what is let in: its first page says which rule
//! goes where), `answer/` (what goes out), `stored/` (what is kept between requests), `error.rs` (what a client sees when it goes wrong).
#![forbid(unsafe_code)]

mod admit;
mod answer;
mod door;
mod embeddings;
mod error;
mod generate;
mod layer;
mod models;
mod responses;
pub mod store;
mod stored;
mod wording;

pub use admit::chat::{MAX_STOP_STRINGS, parse_chat};
pub use admit::completion::parse_completion;
pub use answer::body::Body;
pub use answer::ended::{Ended, Outcome};
pub use door::caller::{BadModelPattern, Caller, ModelPattern};
pub use door::policy::{Ceilings, ModelPolicy, Policy, Strictness};
pub use door::routes::Route;
pub use door::{Door, RequestId};
pub use error::ApiError;
pub use layer::{EitherBody, OpenAi, OpenAiLayer};
pub use store::{MemoryStore, Store};
