//! The calls into llama.cpp that compute: a context in which each sequence has its own stream, and
//! the batch of a step.
//!
//! Each slot has one sequence, whose tokens have the positions 0, 1, 2, … without a gap. The caller
//! keeps a list of these tokens in step with the cache. Decision 10 explains the streams, and why
//! the active sequences should have adjacent numbers.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::sizes::Sizes;
use crate::Token;
use crate::adapter::Adapter;
use crate::model::Model;
use crate::raw::{self, Row, Rows};
use crate::state_bytes::StateBytes;
use crate::weights::backend;

pub(super) struct Cache<'model> {
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    /// The number of coordinates in the position of one row: 4 in models with positions inside an
    /// image, else 1.
    planes: usize,
    /// Whether llama.cpp has copies of streams to make with the next step. Until then the data of
    /// their sequences is not valid.
    has_copies_to_make: bool,
    /// The number of threads that the next step is computed with.
    threads: i32,
}

/// The number of a slot, which is also the number of its sequence in llama.cpp.
pub(super) type Sequence = usize;

impl<'model> Cache<'model> {
    /// Reserves the memory. Returns `None` if llama.cpp cannot.
    pub(super) fn new(model: &'model Model, sizes: Sizes) -> Option<Self> {
        let mut cache = Self::over(&model.llama, sizes)?;
        let is_laid_over = |adapter: &Adapter| adapter.lay_over(&mut cache.context);
        model
            .adapter
            .as_ref()
            .is_none_or(is_laid_over)
            .then_some(cache)
    }

    /// Reserves the memory for a bare llama.cpp model, such as a draft model. Returns `None` if
    /// llama.cpp cannot.
    pub(super) fn over(llama: &'model LlamaModel, sizes: Sizes) -> Option<Self> {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(sizes.context * sizes.parallel))
            .with_n_seq_max(sizes.parallel)
            .with_n_batch(sizes.batch)
            .with_n_ubatch(sizes.batch)
            .with_n_threads(sizes.threads)
            .with_n_threads_batch(sizes.threads)
            .with_type_k(sizes.cache_types.keys.into())
            .with_type_v(sizes.cache_types.values.into())
            // A row attends to the cells of its own sequence only.
            .with_kv_unified(false)
            // The full cache is kept for sliding windows, so that a sequence can be truncated
            // anywhere.
            .with_swa_full(true)
            .with_no_perf(true);
        let context = llama.new_context(backend(), params).ok()?;
        let batch = LlamaBatch::new(sizes.batch as usize, 1);
        let planes = raw::numbers::planes(llama)?;
        Some(Self {
            context,
            batch,
            planes,
            has_copies_to_make: false,
            threads: sizes.threads,
        })
    }

    /// Begins a new step.
    pub(super) fn begin(&mut self) {
        self.batch.clear();
    }

    /// Adds a token to the step, and returns the row of its logits. The logits are computed only
    /// with `wanted`.
    pub(super) fn add(
        &mut self,
        sequence: Sequence,
        position: usize,
        token: Token,
        wanted: bool,
    ) -> Result<i32, String> {
        let row = self.batch.n_tokens();
        self.batch
            .add(
                LlamaToken(token.cast_signed()),
                to_i32(position),
                &[to_i32(sequence)],
                wanted,
            )
            .map_err(|error| error.to_string())?;
        Ok(row)
    }

    /// The row of the token that is added next.
    pub(super) fn next_row(&self) -> i32 {
        self.batch.n_tokens()
    }

    /// The number of tokens of the step so far.
    pub(super) fn rows(&self) -> usize {
        usize::try_from(self.batch.n_tokens()).unwrap_or(0)
    }

    /// Whether the step has no tokens yet.
    pub(super) fn is_empty_step(&self) -> bool {
        self.rows() == 0
    }

    /// Sets the number of threads for the next steps.
    pub(super) fn use_threads(&mut self, threads: i32) {
        if threads != self.threads && raw::use_threads(&mut self.context, threads) {
            self.threads = threads;
        }
    }

    /// Computes the step.
    pub(super) fn compute(&mut self) -> Result<(), String> {
        self.has_copies_to_make = false;
        self.context
            .decode(&mut self.batch)
            .map_err(|error| error.to_string())
    }

    /// Computes rows of an image or a sound immediately, separately from the step that is being
    /// built. They have no logits.
    pub(super) fn read_rows(
        &mut self,
        sequence: Sequence,
        position: usize,
        rows: &Rows,
        which: std::ops::Range<usize>,
    ) -> Result<(), String> {
        let (sequence, base) = (to_i32(sequence), to_i32(position));
        let step: Vec<Row<'_>> = which
            .map(|index| Row {
                sequence,
                base,
                rows,
                index,
            })
            .collect();
        self.has_copies_to_make = false;
        raw::decode(&mut self.context, &step, self.planes)
    }

    /// The logits of a token that was added to the step with `wanted`.
    pub(super) fn logits(&self, row: i32) -> &[f32] {
        self.context.get_logits_ith(row)
    }

    /// Removes the tokens of a sequence from this position on. Returns `false` if the model cannot
    /// be truncated there.
    pub(super) fn truncate(&mut self, sequence: Sequence, position: usize) -> bool {
        let from = u32::try_from(position).ok();
        self.context
            .kv_cache_seq_rm(to_i32(sequence), from, None)
            .is_ok()
    }

    /// Copies the first `end` positions of a sequence to another one. llama.cpp copies the whole
    /// stream with the next step, whatever its length; the rest is removed at once. Returns `false`
    /// if something has to be removed and the model cannot be truncated.
    pub(super) fn copy(&mut self, from: Sequence, to: Sequence, end: usize) -> bool {
        self.has_copies_to_make = true;
        self.context
            .kv_cache_seq_cp(to_i32(from), to_i32(to), None, None)
            .is_ok()
            && self.truncate(to, end)
    }

    /// Whether the state of a sequence can be read and replaced now: llama.cpp has no copies to
    /// make.
    pub(super) fn is_settled(&self) -> bool {
        !self.has_copies_to_make
    }

    /// The state of a sequence as bytes. `None` if it is larger than `most` bytes, or cannot be
    /// read.
    pub(super) fn save(&self, sequence: Sequence, most: usize) -> Option<StateBytes> {
        if !self.is_settled() {
            return None;
        }
        raw::save_sequence(&self.context, to_i32(sequence), most)
    }

    /// Replaces the content of a sequence by a state from [`Cache::save`]. If llama.cpp refuses the
    /// state, the sequence is empty, and the result is `false`.
    pub(super) fn restore(&mut self, sequence: Sequence, state: &[u8]) -> bool {
        let is_restored = self.is_settled()
            && self.truncate(sequence, 0)
            && raw::restore_sequence(&mut self.context, to_i32(sequence), state);
        if !is_restored {
            self.truncate(sequence, 0);
        }
        is_restored
    }

    /// Clears the cache.
    pub(super) fn clear(&mut self) {
        self.context.clear_kv_cache();
    }
}

/// Sequences, positions and tokens are far below 2^31: `Sizes` bounds them.
fn to_i32(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
