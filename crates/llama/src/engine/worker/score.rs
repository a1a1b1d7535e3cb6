//! The log-probabilities of prompts in a step.

use super::{Reader, Worker};
use crate::engine::cache::Sequence;
use crate::engine::score::MOST_ROWS;

/// A scored token of a prompt: its sequence, its index in the prompt, and its row in the step.
pub(super) struct ScoredRow {
    pub(super) sequence: Sequence,
    pub(super) place: usize,
    pub(super) row: i32,
}

impl Worker<'_> {
    /// Limits how many scored tokens are read in a step, for all prompts together, in order of
    /// arrival.
    pub(super) fn bound_scored(&self, readers: &mut [Reader]) {
        let mut left = MOST_ROWS;
        for reader in readers {
            let slot = &self.slots[reader.sequence];
            if slot
                .work
                .as_ref()
                .is_some_and(|work| work.scores_go_on_at(slot.held.len()))
            {
                reader.left = reader.left.min(left);
                left -= reader.left;
            }
        }
    }

    /// Reads the log-probabilities from the step's logits, and sends them. Those at the end of a
    /// prompt are sent with the answer's first token.
    pub(super) fn score(&mut self, rows: &[ScoredRow]) {
        for of_one in rows.chunk_by(|one, next| one.sequence == next.sequence) {
            let slot = of_one
                .first()
                .and_then(|first| self.slots.get_mut(first.sequence));
            let Some((slot, work)) =
                slot.and_then(|slot| Some((slot.held.len(), slot.work.as_mut()?)))
            else {
                continue;
            };
            for &ScoredRow { place, row, .. } in of_one {
                work.score(place, || self.cache.logits(row), self.model);
            }
            if slot < work.prompt.len() {
                work.send_scores();
            }
        }
    }
}
