//! [`OpenAiLayer`]: wrap any service that speaks Ollama's API, and it speaks OpenAI's too.
//!
//! It is the same door as the server's, over [`Ollama<S>`] where `S` is the very service that is
//! wrapped. Routes that are not OpenAI's pass through untouched.

mod body;
mod service;

pub use body::EitherBody;
pub use service::{OpenAi, OpenAiLayer};
