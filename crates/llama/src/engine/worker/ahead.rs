//! The beginning of a step: which tokens it reads of each answer. The first is the answer's next
//! token. Those after it are read ahead: tokens that the answer's grammar forces, and drafts.

use super::Worker;
use crate::Token;
use crate::engine::cache::Sequence;
use crate::engine::draft::DraftTokens;
use crate::engine::lookup::may_guess;

/// The maximum number of tokens that a step reads ahead for one answer. From 64 rows of a sequence
/// on, llama.cpp's attention works in tiles, which sum in another order than single rows.
const MOST: usize = 62;

/// The tokens of one answer in a step.
pub(super) struct Ahead {
    pub(super) sequence: Sequence,
    next: Token,
    pub(super) forced: Vec<Token>,
    pub(super) drafted: Vec<Token>,
}

impl Ahead {
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let ahead = self.forced.iter().chain(&self.drafted);
        std::iter::once(&self.next).chain(ahead).copied()
    }
}

impl Worker<'_> {
    /// The tokens that the step reads of each answer whose reader has room, in the order of the
    /// slots.
    pub(super) fn read_ahead(&mut self) -> Vec<Ahead> {
        if let Some(lookup) = &mut self.lookup {
            lookup.begin_step();
        }
        let room = self.room_ahead();
        let room_forced = if self.fast_forward { room } else { 0 };
        let mut answers = Vec::new();
        for (sequence, slot) in self.slots.iter_mut().enumerate() {
            let Some((next, task)) = slot.task.as_mut().and_then(|task| Some((task.next?, task)))
            else {
                continue;
            };
            let forced = task.forced_run(room_forced).to_vec();
            if task.sender.has_room_for(1 + forced.len()) {
                answers.push(Ahead {
                    sequence,
                    next,
                    forced,
                    drafted: Vec::new(),
                });
            }
        }
        self.draft(&mut answers, room);
        self.look_up(&mut answers, room);
        answers
    }

    /// The number of tokens that a step can read for each answer after the answer's own next token.
    /// The room of a step is divided evenly among the answers.
    fn room_ahead(&self) -> usize {
        let room = (self.sizes.batch / self.sizes.parallel).saturating_sub(1);
        MOST.min(room as usize)
    }

    /// Drafts tokens for the step. If the draft model fails, the engine continues without it.
    fn draft(&mut self, answers: &mut [Ahead], room: usize) {
        let Some(drafts) = &mut self.drafts else {
            return;
        };
        let mut are_forced = vec![false; self.slots.len()];
        for answer in answers.iter() {
            are_forced[answer.sequence] = !answer.forced.is_empty();
        }
        let drafted = drafts
            .draft(&self.slots, &are_forced, room)
            .unwrap_or_else(|what| {
                tracing::error!(
                    what,
                    "the draft model failed; the engine continues without it"
                );
                self.drafts = None;
                Vec::new()
            });
        for DraftTokens {
            sequence, tokens, ..
        } in drafted
        {
            let answer = answers
                .iter_mut()
                .find(|answer| answer.sequence == sequence);
            if let Some(answer) = answer {
                answer.drafted = tokens;
            }
        }
    }

    /// Guesses tokens for the step.
    fn look_up(&mut self, answers: &mut [Ahead], room: usize) {
        let Some(lookup) = &mut self.lookup else {
            return;
        };
        if !may_guess(&self.slots) {
            lookup.ignore_time();
            return;
        }
        // A step with forced tokens takes longer, whether there are guesses or not.
        if answers.iter().any(|answer| !answer.forced.is_empty()) {
            lookup.ignore_time();
        }
        for answer in answers.iter() {
            let slot = &self.slots[answer.sequence];
            let Some(task) = &slot.task else { continue };
            let room = room.min(task.max_draft_tokens());
            let mut text = slot.tokens.clone();
            text.extend(answer.tokens());
            lookup.guess(
                answer.sequence,
                &text,
                room.saturating_sub(answer.forced.len()),
            );
        }
        let mut planned = lookup.plan(answers.len());
        for answer in answers {
            answer.drafted = std::mem::take(&mut planned[answer.sequence]);
        }
    }
}
