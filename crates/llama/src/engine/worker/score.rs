//! Computes the log-probabilities of scored prompts in a step.

use super::{PendingPrompt, Worker};
use crate::engine::cache::Sequence;
use crate::engine::score::MOST_ROWS;

/// A scored token of a prompt: its sequence, its index in the prompt, and its row in the step.
pub(super) struct ScoredRow {
    pub(super) sequence: Sequence,
    pub(super) place: usize,
    pub(super) row: i32,
}

impl Worker<'_> {
    /// Limits how many scored tokens a step reads, for all prompts together and in order of
    /// arrival.
    pub(super) fn bound_scored(&self, prompts: &mut [PendingPrompt]) {
        let mut left = MOST_ROWS;
        for prompt in prompts {
            let slot = &self.slots[prompt.sequence];
            if slot
                .task
                .as_ref()
                .is_some_and(|task| task.scores_continue_at(slot.tokens.len()))
            {
                prompt.left = prompt.left.min(left);
                left -= prompt.left;
            }
        }
    }

    /// Computes the log-probabilities from the step's logits, and sends them. Those at the end of a
    /// prompt are sent with the first token of the answer.
    pub(super) fn score(&mut self, rows: &[ScoredRow]) {
        for of_one in rows.chunk_by(|one, next| one.sequence == next.sequence) {
            let slot = of_one
                .first()
                .and_then(|first| self.slots.get_mut(first.sequence));
            let Some((slot, task)) =
                slot.and_then(|slot| Some((slot.tokens.len(), slot.task.as_mut()?)))
            else {
                continue;
            };
            for &ScoredRow { place, row, .. } in of_one {
                task.score(place, || self.cache.logits(row), self.model);
            }
            if slot < task.prompt.len() {
                task.send_scores();
            }
        }
    }
}
