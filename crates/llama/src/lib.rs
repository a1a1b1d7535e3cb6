//! The embedded llama.cpp backend: a GGUF file in, OpenAI's chat or embeddings out, in the caller's
//! process.
//!
//! Reading order: `options` (what can be set), `model` (a loaded file), `adapter` (what is laid
//! over it), `draft` (a smaller one beside it), `template` (conversation to prompt), `engine` (the
//! thread that answers several requests in one batch), `sample` (logits to token), `grammar` (which
//! tokens may come, where the answer has a form), `text` (tokens to text), `syntax` and `deltas`
//! (text to reasoning, calls and answer), `hold` (what an answer is held to), `completion` (a text
//! as a prompt), `backend` and `events` (all of it as a [`loggia_backend::Backend`]), `media`
//! (pictures and sounds), `embed` (models that make vectors, and an engine of their own), `gguf`
//! (the check of a file before llama.cpp sees it), `memory` (what it will need), `processor`,
//! `threads`, `devices` and `libraries` (the machine). `docs/engine.md` tells it in words.
//!
//! llama.cpp is reached through `llama-cpp-2`; what that leaves to trust, and the one module with
//! `unsafe` in it (`raw`), is in `docs/decisions/0005-llama-cpp-2.md`.
#![deny(unsafe_code)]

mod adapter;
mod backend;
mod completion;
mod deltas;
mod devices;
mod draft;
mod embed;
mod engine;
mod engine_options;
mod error;
mod events;
mod gguf;
mod grammar;
mod hold;
#[cfg(feature = "portable")]
mod libraries;
mod loosen;
mod media;
mod memory;
mod model;
mod options;
mod processor;
mod raw;
mod request;
mod sample;
mod syntax;
mod template;
mod text;
mod threads;

pub use backend::{Llama, open};
pub use embed::LlamaEmbedder;
pub use engine_options::check_options;
pub use error::{EngineError, LoadError};
pub use gguf::GgufError;
pub use memory::Forecast;
pub use options::{DEFAULT_CONTEXT, Draft, LlamaOptions, Lora};
pub use template::TemplateError;
pub use threads::waiting;

/// A token's number in the model's vocabulary. llama.cpp counts them with 31 bits.
pub(crate) type Token = u32;
