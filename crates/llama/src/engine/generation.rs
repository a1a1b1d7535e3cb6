//! A request to the engine: one text to continue, and the settings for it.

use std::sync::Arc;

use super::passage::Passage;
use super::score::Scored;
use crate::grammar::AnswerConstraint;
use crate::sample::Sampling;

/// The scope in which requests share cached prompts: one API key, by its name, or (`None`) all
/// keys.
pub(crate) type Scope = Option<Arc<str>>;

/// A request to the engine: one text to continue.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) prompt: Passage,
    pub(crate) scope: Scope,
    /// The maximum number of tokens, prompt and answer together. It is at most the engine's
    /// context.
    pub(crate) context: usize,
    /// The maximum number of tokens to generate. If `None`, only the context limits the answer; if
    /// 0, the engine only reads the prompt.
    pub(crate) max_tokens: Option<usize>,
    /// Stop strings. They are not part of the answer.
    pub(crate) stop: Vec<String>,
    pub(crate) sampling: Sampling,
    /// The constraint of the answer.
    pub(crate) constraint: Option<AnswerConstraint>,
    /// The number of alternatives to list for each token. `None` if no log-probabilities are
    /// requested.
    pub(crate) top_logprobs: Option<usize>,
    /// Whether the log-probabilities include the token that ends the answer.
    pub(crate) shows_end: bool,
    /// The part of the prompt whose log-probabilities are requested too.
    pub(crate) scored: Option<Scored>,
}

impl Generation {
    /// Whether the request must give the same text each time: it samples at random and sets a seed.
    pub(super) fn is_to_be_reproducible(&self) -> bool {
        self.sampling.seed.is_some() && self.sampling.temperature > 0.0
    }
}
