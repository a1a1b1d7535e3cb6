//! The log-probabilities of a prompt's tokens: which rows of logits they need, and what of them can
//! be sent.
//!
//! The row of a token says how likely each token after it is, so the first token that is scored has
//! none.

use std::ops::Range;

use loggia_wire::openai::TokenLogprob;

use crate::Token;
use crate::model::Model;
use crate::sample::rank;

use super::work::logprob;

/// Rows of logits for prompts in one step. Each takes four bytes for every token of the vocabulary,
/// which llama.cpp does not give back.
pub(crate) const MOST_ROWS: usize = 64;

/// The part of a prompt whose log-probabilities are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scored {
    /// The places of its tokens in the prompt; at least one.
    pub(crate) tokens: Range<usize>,
    /// What it is as text.
    pub(crate) text: String,
}

/// More of a prompt that is scored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ScoredPiece {
    /// More of its text, in whole characters.
    pub(crate) text: String,
    /// Of its next tokens.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Whether nothing of it follows.
    pub(crate) is_last: bool,
}

impl ScoredPiece {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.logprobs.is_empty()
    }
}

/// A part of a prompt on its way to the reader.
#[derive(Debug)]
pub(super) struct Scores {
    asked: Scored,
    /// How many alternatives are wanted for each token.
    top: usize,
    /// Bytes of the tokens so far, and how many of the text have been sent.
    seen: usize,
    sent: usize,
    ready: ScoredPiece,
}

impl Scores {
    pub(super) fn new(asked: Scored, top: usize) -> Self {
        Self {
            asked,
            top,
            seen: 0,
            sent: 0,
            ready: ScoredPiece::default(),
        }
    }

    /// Where it begins: tokens from here on are to be computed, whoever has them in his cache.
    pub(super) fn start(&self) -> usize {
        self.asked.tokens.start
    }

    /// Whether the logits of the token at this place are needed.
    pub(super) fn need(&self, place: usize) -> bool {
        self.asked.tokens.contains(&place) && self.asked.tokens.contains(&(place + 1))
    }

    /// Whether there are tokens of it from this place on.
    pub(super) fn go_on_at(&self, place: usize) -> bool {
        place < self.asked.tokens.end
    }

    /// Takes note of the token at this place of the prompt, which has been computed. `logits` is
    /// only called where they are needed.
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
            if bytes.starts_with(b" ") && !self.asked.text.starts_with(' ') {
                bytes.remove(0);
            }
            let token = String::from_utf8_lossy(&bytes).into_owned();
            // The door knows the first one by this, and shows none.
            self.add(TokenLogprob {
                token,
                logprob: f64::from(-9999_i16),
                bytes: Some(bytes),
                top_logprobs: Vec::new(),
            });
        }
        if let Some(&next) = prompt.get(place + 1).filter(|_| self.need(place)) {
            let ranked = rank(logits(), next, self.top);
            self.add(logprob(model, ranked, written(model, next)));
        }
        if place + 1 == self.asked.tokens.end {
            // Where the tokens do not spell out the text, this is the rest of it.
            self.release(self.asked.text.len());
            self.ready.is_last = true;
        }
    }

    /// What has not been sent yet; none where there is nothing new.
    pub(super) fn take(&mut self) -> Option<ScoredPiece> {
        let piece = std::mem::take(&mut self.ready);
        (piece != ScoredPiece::default()).then_some(piece)
    }

    fn add(&mut self, token: TokenLogprob) {
        self.seen += token.bytes.as_ref().map_or(0, Vec::len);
        self.ready.logprobs.push(token);
        self.release(self.seen);
    }

    /// Releases the text up to so many bytes, or to the end of the last whole character before.
    fn release(&mut self, end: usize) {
        let end = self.asked.text.floor_char_boundary(end);
        if let Some(more) = self.asked.text.get(self.sent..end) {
            self.ready.text.push_str(more);
            self.sent = end;
        }
    }
}

/// The bytes of a token, a special one written out: the prompt has it.
fn written(model: &Model, token: Token) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.append_written(token, &mut bytes);
    bytes
}
