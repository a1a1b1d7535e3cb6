//! The two ends of a step: drafting before it, and sampling from its logits.

use super::{Slot, Wanted, Worker};
use crate::engine::draft::Guess;

impl Worker<'_> {
    /// Drafts tokens. If the draft model fails, the engine continues without it.
    pub(super) fn guess(&mut self) -> Vec<Guess> {
        let Some(drafts) = &mut self.drafts else {
            return Vec::new();
        };
        // The room is divided evenly among the answers. Each also has its next token in the step,
        // and the step has no piece of a prompt.
        let room = self.sizes.batch / self.sizes.parallel;
        drafts
            .guess(&self.slots, room.saturating_sub(1) as usize)
            .unwrap_or_else(|what| {
                tracing::error!(
                    what,
                    "the draft model failed; the engine goes on without it"
                );
                self.drafts = None;
                Vec::new()
            })
    }

    pub(super) fn choose(&mut self, wanted: &[Wanted]) {
        let mut tokens = 0;
        for wanted in wanted {
            let (right, is_over) = self.choose_for(wanted);
            tokens += right + 1;
            if wanted.guesses > 0 {
                self.take_back(wanted, right);
            }
            if is_over {
                self.release(wanted.sequence);
            }
        }
        if let Some(drafts) = &mut self.drafts {
            drafts.step_is_over(tokens);
        }
    }

    /// Samples a token of an answer, and another one for as long as the last equals the drafted
    /// token. Returns the number of accepted draft tokens, and whether the answer has ended.
    fn choose_for(&mut self, wanted: &Wanted) -> (usize, bool) {
        let Slot {
            held,
            work: Some(work),
            ..
        } = &mut self.slots[wanted.sequence]
        else {
            return (0, false);
        };
        let guesses = &held[held.len() - wanted.guesses..];
        for (right, row) in (wanted.row..).take(guesses.len() + 1).enumerate() {
            if work.step(self.cache.logits(row), self.model, &mut self.scratch) {
                return (right, true);
            }
            if guesses.get(right).copied() != work.next {
                return (right, false);
            }
        }
        (guesses.len(), false)
    }

    /// Removes the rejected draft tokens from the cache.
    fn take_back(&mut self, wanted: &Wanted, right: usize) {
        let &Wanted {
            sequence, guesses, ..
        } = wanted;
        let slot = &self.slots[sequence];
        let kept = slot.held.len() - guesses + right;
        if right < guesses {
            let position = slot
                .work
                .as_ref()
                .map_or(kept, |work| work.prompt.position(kept));
            self.cut(sequence, kept, position);
        }
        if let Some(drafts) = &mut self.drafts {
            drafts.learn(sequence, guesses, right);
        }
    }
}
