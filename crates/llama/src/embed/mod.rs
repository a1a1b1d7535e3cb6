//! Models that pool, which compute one vector for each input: embedding models, and reranking models,
//! whose vector is a score. And the engine that computes both.
//!
//! Reading order: `sizes` (the sizes of a batch), `model` (a loaded model: texts to tokens), `pair`
//! (a query and a document as one input), `engine` (the interface for callers), `job` (what callers
//! send to the thread), `worker` (the thread that computes), `share` (which inputs go into the next
//! batch), `pooled` (what both backends share), `embedder` and `reranker` (all of it as a
//! [`loggia_backend::Backend`]). `gguf::Pooling` recognizes these models by their headers.
//!
//! No text is generated here: there is no cache between requests, no sampling, and no streaming.

mod embedder;
mod engine;
mod job;
mod model;
mod pair;
mod pooled;
mod reranker;
mod share;
mod sizes;
mod worker;

pub use embedder::LlamaEmbedder;
pub use reranker::LlamaReranker;
pub(crate) use sizes::Sizes;
