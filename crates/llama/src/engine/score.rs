//! The log-probabilities of a prompt's tokens (`echo` with `logprobs`): which logits they need, and
//! which of them can be sent.
//!
//! The logits of a token are the probabilities of the token after it, so the first scored token has
//! none.

use std::ops::Range;

use loggia_wire::openai::TokenLogprob;

use super::token_logprob::token_logprob;
use crate::Token;
use crate::model::Model;
use crate::sample::rank;

/// The maximum number of rows of logits for scored prompts in one step. A row takes four bytes for
/// each token of the vocabulary, and llama.cpp does not free that memory.
pub(crate) const MOST_ROWS: usize = 64;

/// The part of a prompt whose log-probabilities are requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scored {
    /// The indexes of the scored tokens in the prompt. There is at least one.
    pub(crate) tokens: Range<usize>,
    /// The text of the scored part.
    pub(crate) text: String,
}

/// More of a scored prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ScoredPiece {
    /// More of the text of the scored prompt, in whole characters.
    pub(crate) text: String,
    /// The log-probabilities of the next tokens of the scored prompt.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Whether this is the last piece of the scored prompt.
    pub(crate) is_last: bool,
}

impl ScoredPiece {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.logprobs.is_empty()
    }
}

/// The state of scoring one prompt.
#[derive(Debug)]
pub(super) struct Scores {
    scored: Scored,
    /// The number of alternatives for each token.
    top: usize,
    /// The number of bytes of the tokens so far, and the number of text bytes that have been sent.
    seen: usize,
    sent: usize,
    ready: ScoredPiece,
}

impl Scores {
    pub(super) fn new(scored: Scored, top: usize) -> Self {
        Self {
            scored,
            top,
            seen: 0,
            sent: 0,
            ready: ScoredPiece::default(),
        }
    }

    /// The index of the first scored token. The tokens from here on must be computed, even if they
    /// are in the cache.
    pub(super) fn start(&self) -> usize {
        self.scored.tokens.start
    }

    /// Whether the logits of the token at this index are needed.
    pub(super) fn need(&self, place: usize) -> bool {
        self.scored.tokens.contains(&place) && self.scored.tokens.contains(&(place + 1))
    }

    /// Whether scored tokens follow from this index on.
    pub(super) fn continues_at(&self, place: usize) -> bool {
        place < self.scored.tokens.end
    }

    /// Records the token at this index of the prompt, which has been computed, and scores the token
    /// after it. `logits` is only called if they are needed.
    pub(super) fn push<'a>(
        &mut self,
        prompt: &[Token],
        place: usize,
        logits: impl FnOnce() -> &'a [f32],
        model: &Model,
    ) {
        if place == self.start() {
            let mut bytes = written(model, prompt[place]);
            // Some tokenizers put a space before every text.
            if bytes.starts_with(b" ") && !self.scored.text.starts_with(' ') {
                bytes.remove(0);
            }
            let token = String::from_utf8_lossy(&bytes).into_owned();
            // The API layer recognizes the first token by this value, and sends no log-probability
            // for it.
            self.add(TokenLogprob {
                token,
                logprob: f64::from(-9999_i16),
                bytes: Some(bytes),
                top_logprobs: Vec::new(),
            });
        }
        if let Some(&next) = prompt.get(place + 1).filter(|_| self.need(place)) {
            let ranked = rank(logits(), next, self.top);
            self.add(token_logprob(model, ranked, written(model, next)));
        }
        if place + 1 == self.scored.tokens.end {
            // If the bytes of the tokens do not add up to the text, this sends the rest of the
            // text.
            self.release(self.scored.text.len());
            self.ready.is_last = true;
        }
    }

    /// Takes the scores that have not been sent yet. Returns `None` if there are none.
    pub(super) fn take(&mut self) -> Option<ScoredPiece> {
        let piece = std::mem::take(&mut self.ready);
        (piece != ScoredPiece::default()).then_some(piece)
    }

    fn add(&mut self, token: TokenLogprob) {
        self.seen += token.bytes.as_ref().map_or(0, Vec::len);
        self.ready.logprobs.push(token);
        self.release(self.seen);
    }

    /// Releases the text up to `end` bytes, or to the last complete character before.
    fn release(&mut self, end: usize) {
        let end = self.scored.text.floor_char_boundary(end);
        if let Some(more) = self.scored.text.get(self.sent..end) {
            self.ready.text.push_str(more);
            self.sent = end;
        }
    }
}

/// The bytes of a token. The text of a special token is included, because the prompt contains it.
fn written(model: &Model, token: Token) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.append_written(token, &mut bytes);
    bytes
}
