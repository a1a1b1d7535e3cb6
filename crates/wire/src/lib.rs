//! The types of OpenAI's API, of Anthropic's Messages API and of Ollama's native API, and the
//! framing of their streams.
//!
//! This crate has no I/O, no clock and no decisions. `loggia-backend` and `loggia-api` define what
//! a field means for a backend.
//!
//! Reading order: [`openai`] (requests, complete answers, chunks, errors, models), [`anthropic`]
//! (`/v1/messages`), [`ollama`] (`/api/chat` and the other endpoints), [`frame`] (bytes to lines and
//! events, and back).
#![forbid(unsafe_code)]

mod json_text;
mod object;
mod once;

pub mod anthropic;
pub mod frame;
pub mod ollama;
pub mod openai;
pub mod rerank;

pub use json_text::JsonText;
pub use once::Once;

/// The unknown fields of a JSON object. They are kept and written again.
pub type Extra = serde_json::Map<String, serde_json::Value>;
