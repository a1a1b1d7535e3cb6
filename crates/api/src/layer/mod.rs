//! [`OpenAiLayer`]: adds OpenAI's API to any service that speaks Ollama's API.
//!
//! It uses the same door as the server, over [`Ollama<S>`], where `S` is the wrapped service.
//! Requests for other routes reach the service unchanged.

mod body;
mod service;

pub use body::EitherBody;
pub use service::{OpenAi, OpenAiLayer};
