//! The pooled HTTP client that both network backends use.
//!
//! Reading order: [`Upstream`] (the address of one engine, held by a backend), [`Client`] (the
//! pool), [`Limits`] (time limits per phase), [`Error`] (which phase failed). It knows nothing of
//! OpenAI or Ollama.

mod base_url;
mod body;
mod client;
mod connect;
mod connection;
mod error;
mod form;
mod framing;
mod head;
mod limits;
mod pool;
mod request_body;
mod resolver;
mod tls;
mod upstream;

pub use base_url::{BaseUrl, BaseUrlError};
pub use body::{Body, read};
pub use client::{Client, ResponseFuture};
pub use error::Error;
pub use form::{Form, FormFile};
pub use limits::Limits;
pub use request_body::RequestBody;
pub use tls::TlsFault;
pub use upstream::{Key, KeyError, Upstream};
