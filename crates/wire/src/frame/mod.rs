//! Framing: splits bytes into lines ([`Lines`], for Ollama's NDJSON) and into server-sent events
//! ([`sse`]), and writes both.
//!
//! The readers give the same result wherever the bytes are split. Their buffers hold at most one
//! line, up to a limit.

mod lines;
pub mod ndjson;
pub mod sse;

pub use lines::{LineTooLong, Lines};
