//! The sizes of the batches of a model that pools, from the options and the model's header.

use crate::error::LoadError;
use crate::gguf::{Gguf, is_encoder};
use crate::options::{DEFAULT_CONTEXT, LlamaOptions};

/// The maximum number of inputs in one batch. Only short inputs reach it: the number of tokens in a
/// batch is limited too, so memory does not depend on this.
const INPUTS: u32 = 64;

/// The sizes of the batches, computed from the options and the model's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The maximum number of tokens of one input.
    pub(crate) context: u32,
    /// The maximum number of tokens of a batch. One input always fits, because a model with
    /// bidirectional attention needs the whole input in one batch.
    pub(crate) batch: u32,
    /// The maximum number of inputs in a batch.
    pub(crate) inputs: u32,
    pub(crate) threads: i32,
    /// Whether the model uses a KV cache while it computes, as generative models do.
    pub(crate) has_cache: bool,
}

impl Sizes {
    /// Computes the sizes. The context never exceeds the trained one: an encoder has no meaning, or
    /// no table entry, for a later position.
    pub(crate) fn of(options: &LlamaOptions, gguf: &Gguf) -> Result<Self, LoadError> {
        let trained = gguf.trained_context();
        let context = options.context.unwrap_or(DEFAULT_CONTEXT).min(trained);
        if !(16..=1 << 20).contains(&context) {
            return Err(LoadError::Setting(format!(
                "the context is {context} tokens; for an embedding or reranking model it must be from 16 to 1048576"
            )));
        }
        if options.batch == 0 || options.batch > 8192 {
            return Err(LoadError::Setting(format!(
                "batch is {}; it must be from 1 to 8192",
                options.batch
            )));
        }
        Ok(Self {
            context,
            batch: options.batch.max(context),
            inputs: INPUTS,
            threads: options.threads(),
            has_cache: !is_encoder(gguf),
        })
    }
}
