//! The end of a step: sampling from the logits.

use super::{SampledRow, Slot, Worker};

impl Worker<'_> {
    pub(super) fn choose(&mut self, sampled: &[SampledRow]) {
        let mut tokens = 0;
        for sampled in sampled {
            let (accepted, is_over) = self.choose_for(sampled);
            tokens += accepted + 1;
            if sampled.ahead() > 0 {
                self.remove_rejected(sampled, accepted);
            }
            self.learn(sampled, accepted, is_over);
            if is_over {
                self.release(sampled.sequence);
            }
        }
        if let Some(drafts) = &mut self.drafts {
            drafts.step_is_over(tokens);
        }
        if let Some(lookup) = &mut self.lookup {
            lookup.step_is_over();
        }
    }

    /// Samples the next token of an answer, and another one for as long as the sampled token equals
    /// the one that was read ahead. Returns the number of these, and whether the answer has ended.
    fn choose_for(&mut self, sampled: &SampledRow) -> (usize, bool) {
        let Slot {
            tokens,
            task: Some(task),
            ..
        } = &mut self.slots[sampled.sequence]
        else {
            return (0, false);
        };
        let ahead = &tokens[tokens.len() - sampled.ahead()..];
        for (accepted, row) in (sampled.row..).take(ahead.len() + 1).enumerate() {
            let logits = if task.needs_logits(0) {
                self.cache.logits(row)
            } else {
                &[]
            };
            if task.step(logits, self.model, &mut self.scratch) {
                return (accepted, true);
            }
            if ahead.get(accepted).copied() != task.next {
                return (accepted, false);
            }
        }
        (ahead.len(), false)
    }

    /// Removes the tokens that were read ahead and not accepted from the cache. Forced tokens are
    /// among them only if the answer has ended within them.
    fn remove_rejected(&mut self, sampled: &SampledRow, accepted: usize) {
        let sequence = sampled.sequence;
        let slot = &self.slots[sequence];
        let kept = slot.tokens.len() - sampled.ahead() + accepted;
        if accepted < sampled.ahead() {
            let position = slot
                .task
                .as_ref()
                .map_or(kept, |task| task.prompt.position(kept));
            self.truncate(sequence, kept, position);
        }
    }

    /// Records which of the tokens that were read ahead were accepted.
    fn learn(&mut self, sampled: &SampledRow, accepted: usize, is_over: bool) {
        let sequence = sampled.sequence;
        let right = accepted.saturating_sub(sampled.forced);
        if let Some(drafts) = &mut self.drafts
            && sampled.drafted > 0
        {
            drafts.learn(sequence, sampled.drafted, right);
        }
        if let Some(lookup) = &mut self.lookup {
            let next = self.slots[sequence].task.as_ref();
            let next = next.and_then(|task| task.next).filter(|_| !is_over);
            lookup.learn(sequence, right, next);
        }
    }
}
