//! Ollama: translates OpenAI's requests to Ollama's API, and its answers back.
//!
//! The translation is pure: [`chat_request`] and [`generate_request`] for requests, [`AnswerTranslator`] for
//! answers (line by line). [`Ollama`] is the thin client around them, over any tower service that
//! speaks Ollama's API: a pooled HTTP client, or the service that `OpenAiLayer` wraps.

mod answer;
mod backend;
mod chats;
mod client;
mod context;
mod count;
mod embed;
mod error;
mod events;
mod facts;
mod message;
mod models;
mod names;
mod pass_on;
mod repetition;
mod request;
mod retry_dropped_call;
mod sampling;
mod sized;
mod tools;
mod transport;

pub use answer::AnswerTranslator;
pub use client::{Ollama, OllamaService};
pub use models::ModelMemory;
pub use request::{chat_request, generate_request};
pub(crate) use sampling::OPTIONS;
pub use tools::lost_of_tools;
