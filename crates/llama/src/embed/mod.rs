//! Embedding models, and the engine that computes their vectors.
//!
//! Reading order: `sizes` (the sizes of a batch), `model` (a loaded model: texts to tokens), `engine`
//! (the interface for callers), `job` (what callers send to the thread), `worker` (the thread that
//! computes), `share` (which inputs go into the next batch), `backend` (all of it as a
//! [`loggia_backend::Backend`]). `gguf::Pooling` recognizes embedding models by their headers.
//!
//! No text is generated here: there is no cache between requests, no sampling, and no streaming.

mod backend;
mod engine;
mod job;
mod model;
mod share;
mod sizes;
mod worker;

pub use backend::LlamaEmbedder;
pub(crate) use sizes::Sizes;
