//! The beginning and the end of a step: drafting tokens, and sampling from the logits.

use super::{SampledRow, Slot, Worker};
use crate::engine::draft::DraftTokens;

impl Worker<'_> {
    /// Drafts tokens for the step. If the draft model fails, the engine continues without it.
    pub(super) fn draft(&mut self) -> Vec<DraftTokens> {
        let Some(drafts) = &mut self.drafts else {
            return Vec::new();
        };
        // The room is divided evenly among the answers. One token of each is the answer's own next
        // token. The step has no prompt tokens.
        let room = self.sizes.batch / self.sizes.parallel;
        drafts
            .draft(&self.slots, room.saturating_sub(1) as usize)
            .unwrap_or_else(|what| {
                tracing::error!(
                    what,
                    "the draft model failed; the engine continues without it"
                );
                self.drafts = None;
                Vec::new()
            })
    }

    pub(super) fn choose(&mut self, sampled: &[SampledRow]) {
        let mut tokens = 0;
        for sampled in sampled {
            let (accepted, is_over) = self.choose_for(sampled);
            tokens += accepted + 1;
            if sampled.drafted > 0 {
                self.remove_rejected(sampled, accepted);
            }
            if is_over {
                self.release(sampled.sequence);
            }
        }
        if let Some(drafts) = &mut self.drafts {
            drafts.step_is_over(tokens);
        }
    }

    /// Samples the next token of an answer, and another one for as long as the sampled token equals
    /// the draft token. Returns the number of accepted draft tokens, and whether the answer has
    /// ended.
    fn choose_for(&mut self, sampled: &SampledRow) -> (usize, bool) {
        let Slot {
            tokens,
            task: Some(task),
            ..
        } = &mut self.slots[sampled.sequence]
        else {
            return (0, false);
        };
        let drafted = &tokens[tokens.len() - sampled.drafted..];
        for (accepted, row) in (sampled.row..).take(drafted.len() + 1).enumerate() {
            if task.step(self.cache.logits(row), self.model, &mut self.scratch) {
                return (accepted, true);
            }
            if drafted.get(accepted).copied() != task.next {
                return (accepted, false);
            }
        }
        (drafted.len(), false)
    }

    /// Removes the rejected draft tokens from the cache.
    fn remove_rejected(&mut self, sampled: &SampledRow, accepted: usize) {
        let &SampledRow {
            sequence, drafted, ..
        } = sampled;
        let slot = &self.slots[sequence];
        let kept = slot.tokens.len() - drafted + accepted;
        if accepted < drafted {
            let position = slot
                .task
                .as_ref()
                .map_or(kept, |task| task.prompt.position(kept));
            self.truncate(sequence, kept, position);
        }
        if let Some(drafts) = &mut self.drafts {
            drafts.learn(sequence, drafted, accepted);
        }
    }
}
