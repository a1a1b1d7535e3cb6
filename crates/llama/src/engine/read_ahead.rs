//! Which tokens a step reads after an answer's next token, before the model has chosen them.

use crate::options::LlamaOptions;

/// The tokens that may be read ahead, besides the proposals of a draft model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadAhead {
    /// The tokens that an answer's grammar forces.
    pub(super) forced: bool,
    /// Whether tokens are guessed from the text of the prompt and the answer so far.
    pub(super) lookup: bool,
}

impl ReadAhead {
    pub(super) fn of(options: &LlamaOptions) -> Self {
        Self {
            forced: options.fast_forward,
            lookup: options.lookup,
        }
    }
}
