//! Models that make vectors of texts, and the engine that has them do it.
//!
//! Reading order: `kind` (which files are such models, from their headers), `sizes` (how much at
//! once), `model` (one that is loaded: texts to tokens), `engine` (what callers hold), `worker`
//! (the thread that computes), `share` (whose inputs go into the next batch), `backend` (all of it
//! as a [`loggia_backend::Backend`]).
//!
//! No answers are generated here: there is no cache to keep, no sampling, and nothing to stream.

mod backend;
mod engine;
mod kind;
mod model;
mod share;
mod sizes;
mod worker;

pub use backend::LlamaEmbedder;
pub(crate) use kind::Pooling;
pub(crate) use sizes::Sizes;
