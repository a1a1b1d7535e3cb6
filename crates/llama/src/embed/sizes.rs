//! How much an embedding engine computes at once, from the options and the model's header.

use super::kind::is_encoder;
use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::options::{DEFAULT_CONTEXT, LlamaOptions};

/// The most inputs in one batch: for short ones. A batch's tokens are bounded too, so this is not
/// what memory depends on.
const INPUTS: u32 = 64;

/// Sizes that follow from the options and the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The most tokens of one input.
    pub(crate) context: u32,
    /// The most tokens of a batch: never fewer than of one input, since a model that reads from
    /// both sides needs all of it at once.
    pub(crate) batch: u32,
    /// The most inputs of a batch.
    pub(crate) inputs: u32,
    pub(crate) threads: i32,
    /// Whether it keeps keys and values while it reads, as models do that were made to generate.
    pub(crate) has_cache: bool,
}

impl Sizes {
    /// A position past those that a model was trained with has no meaning to an encoder, or lies
    /// outside its table: never more than these.
    pub(crate) fn of(options: &LlamaOptions, gguf: &Gguf) -> Result<Self, LoadError> {
        let trained = gguf.trained_context();
        let context = options.context.unwrap_or(DEFAULT_CONTEXT).min(trained);
        if !(16..=1 << 20).contains(&context) {
            return Err(LoadError::Setting(format!("inputs of {context} tokens")));
        }
        if options.batch == 0 || options.batch > 8192 {
            return Err(LoadError::Setting("batch can be 1 to 8192".to_owned()));
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
