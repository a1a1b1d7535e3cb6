//! The sizes of the engine: its context, its slots and its steps.

use crate::cache_type::CacheTypes;
use crate::error::LoadError;
use crate::options::{DEFAULT_CONTEXT, LlamaOptions};

/// The minimum context. A smaller one is useless for a conversation.
const SMALLEST_CONTEXT: u32 = 16;

/// The sizes of the engine, computed from the options and the trained context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The context of one request in tokens, for prompt and answer together.
    pub(crate) context: u32,
    /// The number of parallel requests.
    pub(crate) parallel: u32,
    /// The maximum number of tokens of one prompt in a step while answers are generated. It is the
    /// option `piece` plus one token, which is computed together with those of the answers.
    pub(crate) piece: u32,
    /// The maximum number of prompt tokens in a step while no answer is generated.
    pub(crate) alone: u32,
    /// The maximum number of tokens in any step.
    pub(crate) batch: u32,
    pub(crate) threads: i32,
    /// The types of keys and values in the KV cache.
    pub(crate) cache_types: CacheTypes,
    /// The maximum number of bytes of cached prompts that no slot holds.
    pub(crate) cache_memory: usize,
}

impl Sizes {
    pub(crate) fn of(options: &LlamaOptions, trained: u32) -> Result<Self, LoadError> {
        // llama.cpp supports at most 256 sequences.
        if !(1..=256).contains(&options.parallel) {
            return Err(LoadError::Setting(format!(
                "parallel is {}; it must be from 1 to 256",
                options.parallel
            )));
        }
        if options.piece == 0
            || options.batch == 0
            || options.batch > 8192
            || options.piece > options.batch
        {
            return Err(LoadError::Setting(format!(
                "batch is {} and piece is {}; batch must be from 1 to 8192, and piece from 1 to batch",
                options.batch, options.piece
            )));
        }
        let context = options.context.unwrap_or(DEFAULT_CONTEXT.min(trained));
        if context < SMALLEST_CONTEXT {
            return Err(LoadError::Setting(format!(
                "a context of {context} tokens is too small: it is for prompt and answer together, and must be at least {SMALLEST_CONTEXT}; a common value is --context 4096"
            )));
        }
        if u64::from(context) * u64::from(options.parallel) > 1 << 30 {
            return Err(LoadError::Setting(format!(
                "a context of {context} tokens for each of {} parallel requests is more than llama.cpp can address; lower --context or --parallel",
                options.parallel
            )));
        }
        if context > trained {
            tracing::warn!(
                context,
                trained,
                "the context is longer than the one that the model was trained for; long conversations may get poor answers"
            );
        }
        Ok(Self {
            context,
            parallel: options.parallel,
            piece: options.piece + 1,
            alone: options.batch,
            batch: options.batch.max(options.piece + 1 + options.parallel),
            threads: options.threads(),
            cache_types: options.cache_types(),
            cache_memory: usize::try_from(options.cache_memory).unwrap_or(usize::MAX),
        })
    }

    /// The number of cells of the cache. llama.cpp rounds the cells of each sequence up to a
    /// multiple of 256.
    pub(crate) fn cells(&self) -> u64 {
        u64::from(self.context).next_multiple_of(256) * u64::from(self.parallel)
    }

    /// The sizes for a draft model that was trained for a context of `trained` tokens. Nothing is
    /// drafted beyond it. Its keys and values have the default types, which every model can have.
    pub(crate) fn of_draft(self, trained: u32) -> Self {
        Self {
            context: self.context.min(trained),
            cache_types: CacheTypes::default(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cells_of_small_contexts_are_counted_as_llama_cpp_reserves_them() {
        let cells = |context, parallel| {
            let options = LlamaOptions {
                context: Some(context),
                parallel,
                ..LlamaOptions::new("file", "name")
            };
            Sizes::of(&options, 8192).unwrap().cells()
        };
        assert_eq!(cells(4096, 4), 4 * 4096);
        assert_eq!(cells(100, 8), 8 * 256);
    }
}
