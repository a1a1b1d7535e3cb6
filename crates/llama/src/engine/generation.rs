//! What a caller requests from the engine: one text to continue.

use super::passage::Passage;
use super::score::Scored;
use crate::grammar::Held;
use crate::sample::Sampling;

/// One text to continue.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) prompt: Passage,
    /// The maximum number of tokens, prompt and answer together; at most the engine's context.
    pub(crate) context: usize,
    /// The maximum number of tokens to generate. Without it, only the context limits the answer.
    /// With 0, only the prompt is read.
    pub(crate) max_tokens: Option<usize>,
    /// Stop strings. They are not part of the answer.
    pub(crate) stop: Vec<String>,
    pub(crate) sampling: Sampling,
    /// The constraint of the answer.
    pub(crate) held: Option<Held>,
    /// The number of alternatives for each token, if log-probabilities are requested.
    pub(crate) top_logprobs: Option<usize>,
    /// Whether the log-probabilities include the token that ends the answer.
    pub(crate) shows_end: bool,
    /// The part of the prompt whose log-probabilities are also requested.
    pub(crate) scored: Option<Scored>,
}

impl Generation {
    /// Whether the request must give the same text when it is repeated: it samples at random, and
    /// sets a seed.
    pub(super) fn is_to_be_reproducible(&self) -> bool {
        self.sampling.seed.is_some() && self.sampling.temperature > 0.0
    }
}
