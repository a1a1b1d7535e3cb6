//! A step's part in the log-probabilities of prompts.

use super::{Reader, Worker};
use crate::engine::cache::Sequence;
use crate::engine::score::MOST_ROWS;

/// A token of a prompt that is scored: whose, where in the prompt, and in which row of the step.
pub(super) struct ScoredRow {
    pub(super) sequence: Sequence,
    pub(super) place: usize,
    pub(super) row: i32,
}

impl Worker<'_> {
    /// Bounds how much is read of prompts that are scored, for all of them together: those who come
    /// first have it first.
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

    /// Takes the log-probabilities out of the step's logits, and sends them; those at the end of a
    /// prompt go with the answer's first token.
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
