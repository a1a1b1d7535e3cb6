//! A backend for engines that speak OpenAI's API (vLLM, llama-server, …), by name, URL and API key.
//!
//! Reading order: [`OpenAi`] (`engine.rs`), `embed.rs` (embeddings), `count.rs` (tokens of a prompt), `answer.rs` (streamed answers)
//! and `whole.rs` (complete answers), `frame.rs` and `repair.rs` (parsing and repair of engines'
//! JSON), `older_completions.rs` (completions as chats), `refusal.rs` (errors), `models.rs`, `known.rs`
//! (abilities of engines), `audio.rs` and `transcript_events.rs` (recordings and speech), `llama_server.rs` (fields that llama-server ignores),
//! `retry_unparsed_call.rs` (calls that llama-server cannot parse). Only `engine.rs`, `embed.rs`,
//! `audio.rs`, `count.rs`, `events.rs` and `known.rs` do I/O.

mod answer;
mod audio;
mod context;
mod count;
mod embed;
mod engine;
mod error_body;
mod events;
mod frame;
mod known;
mod llama_server;
mod models;
mod older_completions;
mod refusal;
mod repair;
mod rerank;
mod retry_unparsed_call;
mod rewritten_events;
mod transcript_events;
mod whole;

pub use engine::OpenAi;
pub(crate) use refusal::with_its_status;
