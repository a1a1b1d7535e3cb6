//! A backend that speaks OpenAI's API already: vLLM, llama-server and their kin, by name, URL and
//! key.
//!
//! Reading order: [`OpenAi`] (`engine.rs`), `embed.rs` (vectors), `answer.rs` (a stream, frame by
//! frame) and `whole.rs` (an answer in one piece), `frame.rs` and `mend.rs` (what engines send,
//! made regular), `older.rs` (completions as chats), `refusal.rs` (their errors), `models.rs`;
//! `known.rs` (what an engine is known to do) and `llama_server.rs` (llama.cpp's, which passes over
//! a good deal in silence), `misread.rs` (calls that it cannot read). Only `engine.rs`, `embed.rs`,
//! `events.rs` and `known.rs` do I/O.

mod answer;
mod context;
mod embed;
mod engine;
mod error_body;
mod events;
mod frame;
mod known;
mod llama_server;
mod mend;
mod misread;
mod models;
mod older;
mod refusal;
mod whole;

pub use engine::OpenAi;
pub(crate) use refusal::with_its_status;
