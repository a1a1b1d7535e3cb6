//! The pooled HTTP client through which both network backends reach their engines.
//!
//! Reading order: [`Upstream`] (one engine's address; what a backend holds), [`Client`] (the pool
//! under it), [`Limits`] (how long each phase may take), [`Error`] (which phase went wrong). It
//! knows nothing of OpenAI or Ollama.

mod base_url;
mod body;
mod client;
mod connect;
mod connection;
mod error;
mod limits;
mod pool;
mod tls;
mod upstream;

pub use base_url::{BaseUrl, BaseUrlError};
pub use body::{Body, read};
pub use client::{Client, ResponseFuture};
pub use error::Error;
pub use limits::Limits;
pub use tls::TlsFault;
pub use upstream::{Key, KeyError, Upstream};
