//! Framing: bytes to lines ([`Lines`], Ollama's NDJSON) and to server-sent events ([`sse`]), and
//! back.
//!
//! The readers give the same result wherever the bytes are cut. They hold at most one line, up to a
//! limit.

mod lines;
pub mod ndjson;
pub mod sse;

pub use lines::{LineTooLong, Lines};
