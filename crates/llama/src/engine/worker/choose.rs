//! A step's two ends: what is guessed before it, and what is chosen from its logits.

use super::{Slot, Wanted, Worker};
use crate::engine::draft::Guess;

impl Worker<'_> {
    /// Has the draft model guess; where it fails, the engine goes on without it.
    pub(super) fn guess(&mut self) -> Vec<Guess> {
        let Some(drafts) = &mut self.drafts else {
            return Vec::new();
        };
        // The step is shared evenly, and each answer has a token in it besides. No piece of a
        // prompt is in it.
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

    /// Chooses a token of an answer, and another for as long as the one before is what was guessed.
    /// Says how many guesses were, and whether the answer is over.
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

    /// Takes the guesses that were wrong out of the cache.
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
