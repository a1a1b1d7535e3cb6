//! The engine: one thread that owns llama.cpp's context and answers several requests in one batch.
//!
//! Reading order: `handle` (the interface for callers), `generation` (what they request), `output`
//! and `answer` (what a reader receives, and how the engine notices that the reader left), `inbox`
//! (the queue), `worker` (the loop: admit, share, plan, compute, choose), `sizes` (the context and
//! the size of a step), `passage` (the prompt), `slots` (the assignment of the cache),
//! `prompt_cache` (conversations that no slot holds), `plan` (how a step is divided among prompts),
//! `task` (one request in progress), `score` and `token_logprob` (log-probabilities), `read_ahead`
//! (what a step reads beyond an answer's next token), `draft` and `lookup` (speculative decoding),
//! `cache` (the calls into llama.cpp).
//!
//! No HTTP here, and no templates: tokens in, text out.

mod cache;
mod compute_threads;
mod draft;
mod generation;
mod handle;
mod inbox;
mod lookup;
mod output;
mod output_stream;
mod passage;
mod plan;
mod prompt_cache;
mod read_ahead;
mod score;
mod sizes;
mod slots;
mod task;
mod token_logprob;
mod worker;

pub(crate) use generation::{Generation, Scope};
pub(crate) use handle::Engine;
#[cfg(test)]
pub(crate) use output::End;
pub(crate) use output::{Finish, Output, Piece, Usage};
pub(crate) use output_stream::OutputStream;
pub(crate) use passage::{Builder, Passage};
pub(crate) use prompt_cache::MOST_WAITING;
pub(crate) use score::{MOST_ROWS, Scored, ScoredPiece};
pub(crate) use sizes::Sizes;
