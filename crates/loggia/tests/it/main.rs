//! The program as a process: what it prints, what it answers, and how it ends.
//!
//! Each module is one subject; `support` is what they share.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure we want; clippy only knows functions marked as tests"
)]

mod bench;
mod chat;
mod check;
mod completions;
mod connect;
mod deletion;
#[cfg(target_os = "linux")]
mod dns;
mod draft;
mod engine;
mod fleet;
mod lora;
mod media;
mod newcomer;
mod nodes;
#[cfg(target_os = "linux")]
mod pdf;
mod prompt_cache;
mod pull;
mod reload;
mod serve;
mod support;
