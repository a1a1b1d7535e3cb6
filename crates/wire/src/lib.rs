//! What travels: the types of OpenAI's chat API and of Ollama's native API, and the framing of
//! their streams.
//!
//! No I/O, no clock, no decisions: what a field *means* for a backend is said in `loggia-backend`
//! and `loggia-api`.
//!
//! Reading order: [`openai`] (requests, whole answers, chunks, errors, models), [`ollama`]
//! (`/api/chat` and its kin), [`frame`] (bytes to lines and events, and back).
#![forbid(unsafe_code)]

mod json_text;
mod object;
mod once;

pub mod frame;
pub mod ollama;
pub mod openai;

pub use json_text::JsonText;
pub use once::Once;

/// Fields of a JSON object that its type does not know: kept, so that they ride along.
pub type Extra = serde_json::Map<String, serde_json::Value>;
