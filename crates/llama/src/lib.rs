//! The embedded llama.cpp backend. It loads a GGUF file and answers OpenAI's chats, completions or
//! embeddings, or reranks documents, in the caller's process.
//!
//! Reading order: `options` (the settings), `weights` and `model` (a loaded file), `adapter` (a
//! LoRA adapter for it), `draft` (a draft model for speculative decoding), `template` (conversation
//! to prompt), `engine` (the thread that answers several requests in one batch), `sample` (logits
//! to token), `grammar` (the tokens that a constrained answer may continue with), `text` (tokens to
//! text), `syntax` and `deltas` (text to reasoning, tool calls and answer), `constrain` (the constraint
//! of an answer), `completion` and `fill_in_the_middle` (the prompt of a text completion),
//! `backend`, `abilities`, `identity` and `events` (all of it as a [`loggia_backend::Backend`]),
//! `media` (images and sounds), `embed` (embedding and reranking models, with an engine of their
//! own), `gguf` (the check of a file before llama.cpp loads it), `memory` (the memory that a model needs),
//! `processor`, `threads`, `devices` and `libraries` (the machine). `docs/engine.md` explains it in
//! prose.
//!
//! llama.cpp is called through `llama-cpp-2`. `docs/decisions/0005-llama-cpp-2.md` lists what these
//! bindings leave to trust, and describes the only module with `unsafe` code (`raw`).
#![deny(unsafe_code)]

mod abilities;
mod adapter;
mod backend;
mod blocking;
mod cache_type;
mod completion;
mod constrain;
mod deltas;
mod devices;
mod draft;
mod embed;
mod engine;
mod engine_options;
mod error;
mod events;
mod facts;
mod fill_in_the_middle;
mod gguf;
mod grammar;
mod identity;
mod input_grammars;
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
mod state_bytes;
mod syntax;
mod template;
mod text;
mod threads;
mod weights;

pub use backend::{Llama, open};
pub use cache_type::CacheType;
pub use embed::{LlamaEmbedder, LlamaReranker};
pub use engine_options::check_options;
pub use error::{EngineError, LoadError};
pub use gguf::GgufError;
pub use memory::{Forecast, ModelKind};
pub use options::{CacheDisk, CacheScope, DEFAULT_CONTEXT, Draft, LlamaOptions, Lora};
pub use raw::ggml_version;
pub use template::TemplateError;
pub use threads::waiting;

/// The number of a token in the model's vocabulary. llama.cpp's token numbers have 31 bits.
pub(crate) type Token = u32;

/// Returns the numbers of llama.cpp's tokens.
pub(crate) fn numbers(tokens: Vec<llama_cpp_2::token::LlamaToken>) -> Vec<Token> {
    let tokens = tokens.into_iter();
    tokens.map(|token| token.0.cast_unsigned()).collect()
}
