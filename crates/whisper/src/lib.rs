//! Whisper models on this machine, as a [`Backend`](loggia_backend::Backend) that transcribes and
//! translates recordings. Candle computes, on the CPU.
//!
//! Reading order: [`WhisperOptions`] and [`Files`] (which model), `load` (its files), `model` (the
//! network), `sound` (from a file to what the network hears), `window` (30 seconds become tokens),
//! `transcribe` (a recording becomes segments), `words` (their words' times), `answer` (OpenAI's
//! formats), [`Whisper`] (the backend, whose thread computes one recording after the other).
//!
//! Weights and recordings are untrusted. Whatever is wrong with them is an error, or ends the process:
//! the program gives each model a process of its own.
#![forbid(unsafe_code)]

mod answer;
mod backend;
mod engine;
mod error;
mod languages;
mod load;
mod model;
mod request;
mod sound;
mod tokens;
mod transcribe;
mod window;
mod words;

pub use backend::{Whisper, WhisperOptions};
pub use error::LoadError;
pub use load::{Files, Memory, describe};
