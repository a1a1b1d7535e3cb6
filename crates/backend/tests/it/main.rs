//! The backends from outside: what an engine is sent, byte by byte, and what becomes of what it
//! sends.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fetch_images;
mod http;
mod openai;
mod raw;
mod roster;
