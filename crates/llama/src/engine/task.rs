//! A request in progress: its answer so far, and the effect of the next token.

use std::collections::VecDeque;
use std::time::Instant;

use loggia_wire::openai::TokenLogprob;

use super::generation::Scope;
use super::inbox::Job;
use super::output::{End, Finish, Output, OutputSender, Piece, Usage};
use super::passage::Passage;
use super::score::{ScoredPiece, Scores};
use super::token_logprob::token_logprob;
use crate::Token;
use crate::error::EngineError;
use crate::grammar::AnswerConstraint;
use crate::model::Model;
use crate::sample::{Constraint, Sampler, Scratch, Stuck, rank};
use crate::text::{Pushed, Text};

/// The maximum number of forced tokens in a step if their log-probabilities are requested. Each
/// needs a row of logits, and llama.cpp does not free that memory.
const MOST_FORCED_WITH_LOGITS: usize = 15;

pub(super) struct Task {
    pub(super) prompt: Passage,
    pub(super) scope: Scope,
    /// The number of prompt tokens that were found in the cache.
    pub(super) cached: usize,
    /// Whether the prompt waits for a file with its beginning.
    pub(super) is_loading: bool,
    /// The token that was chosen last and is computed next. `None` while the prompt is being read.
    pub(super) next: Option<Token>,
    /// The number of the request, in order of arrival.
    pub(super) number: u64,
    /// The value of the engine's clock when a step last read tokens of the prompt, or when the
    /// request arrived.
    pub(super) served: u64,
    pub(super) sender: OutputSender,
    pub(super) began: Instant,
    /// Whether the request must give the same text each time.
    pub(super) is_reproducible: bool,
    sampler: Sampler,
    text: Text,
    generated: usize,
    most: usize,
    /// The finish reason when the answer reaches its maximum number of tokens.
    at_most: Finish,
    top_logprobs: Option<usize>,
    shows_end: bool,
    /// The scored part of the prompt, until the answer begins.
    scores: Option<Scores>,
    /// The log-probabilities of tokens whose text is held back, each with the end of its text in
    /// bytes.
    held_logprobs: VecDeque<(usize, TokenLogprob)>,
}

impl Task {
    pub(super) fn new(job: Job, number: u64, context: usize) -> Self {
        let Job { generation, sender } = job;
        let room = generation
            .context
            .min(context)
            .saturating_sub(generation.prompt.len())
            .max(1);
        Self {
            cached: 0,
            is_loading: false,
            next: None,
            number,
            served: number,
            sender,
            began: Instant::now(),
            is_reproducible: generation.is_to_be_reproducible(),
            sampler: Sampler::new(
                &generation.sampling,
                &generation.prompt,
                generation.constraint.map(boxed),
            ),
            text: Text::new(generation.stop),
            generated: 0,
            most: generation.max_tokens.unwrap_or(room).min(room),
            at_most: match generation.max_tokens {
                Some(most) if most <= room => Finish::Length,
                _ => Finish::ContextFull,
            },
            top_logprobs: generation.top_logprobs,
            shows_end: generation.shows_end,
            scores: generation
                .scored
                .map(|scored| Scores::new(scored, generation.top_logprobs.unwrap_or(0))),
            held_logprobs: VecDeque::new(),
            scope: generation.scope,
            prompt: generation.prompt,
        }
    }

    /// The maximum number of prompt tokens that may come from the cache. The last token is always
    /// computed, because its logits are needed, and so is the scored part.
    pub(super) fn max_shared(&self) -> usize {
        let last = self.prompt.len() - 1;
        self.scores
            .as_ref()
            .map_or(last, |scores| scores.start().min(last))
    }

    /// Whether reading the prompt is paused, because it is scored and the reader has no room for
    /// the scores.
    pub(super) fn is_paused(&self) -> bool {
        self.scores.is_some() && !self.sender.has_room()
    }

    /// Whether the prompt has scored tokens at this index or after it.
    pub(super) fn scores_continue_at(&self, place: usize) -> bool {
        self.scores
            .as_ref()
            .is_some_and(|scores| scores.continues_at(place))
    }

    /// Whether scoring needs the logits of the token at this index of the prompt.
    pub(super) fn scores_need(&self, place: usize) -> bool {
        self.scores
            .as_ref()
            .is_some_and(|scores| scores.need(place))
    }

    /// Scores a token of the prompt.
    pub(super) fn score<'a>(
        &mut self,
        place: usize,
        logits: impl FnOnce() -> &'a [f32],
        model: &Model,
    ) {
        if let Some(scores) = &mut self.scores {
            scores.push(&self.prompt, place, logits, model);
        }
    }

    /// Sends the scores that have been computed so far.
    pub(super) fn send_scores(&mut self) {
        if let Some(prompt) = self.take_scores() {
            self.sender.send(Ok(Output::Piece(Piece {
                prompt: Some(prompt),
                ..Piece::default()
            })));
        }
    }

    fn take_scores(&mut self) -> Option<ScoredPiece> {
        self.scores.as_mut().and_then(Scores::take)
    }

    /// The tokens that must follow the next token and that a step reads together with it: at most
    /// `room`, and no more than the reader's channel can hold. Unlike draft tokens, they do not
    /// depend on how fast the reader is.
    pub(super) fn forced_run(&mut self, room: usize) -> &[Token] {
        let left = self.most.saturating_sub(self.generated);
        let room = room.min(left.min(self.sender.max_room()).saturating_sub(1));
        let room = match self.top_logprobs {
            Some(_) => room.min(MOST_FORCED_WITH_LOGITS),
            None => room,
        };
        let forced = self.sampler.forced();
        &forced[..forced.len().min(room)]
    }

    /// Whether the logits are needed to choose the token after `ahead` forced tokens.
    pub(super) fn needs_logits(&mut self, ahead: usize) -> bool {
        self.top_logprobs.is_some() || self.sampler.forced().len() <= ahead
    }

    /// Chooses the next token and sends the text that it releases. Returns whether the answer has
    /// ended. The logits may be empty if they are not needed.
    pub(super) fn step(&mut self, logits: &[f32], model: &Model, scratch: &mut Scratch) -> bool {
        let prompt = self.take_scores();
        if self.most == 0 {
            let end = Some(End {
                finish: Finish::Length,
                usage: self.usage(),
            });
            self.sender.send(Ok(Output::Piece(Piece {
                prompt,
                end,
                ..Piece::default()
            })));
            return true;
        }
        let token = match self.sampler.choose(logits, scratch) {
            Ok(token) => token,
            Err(Stuck(what)) => {
                self.sender.send(Err(EngineError::Constraint(what)));
                return true;
            }
        };
        let (text, finish) = self.take(token, logits, model);
        let end = finish.map(|finish| End {
            finish,
            usage: self.usage(),
        });
        let stopped_by = self.text.take_stopped_by();
        let logprobs = self.released_logprobs();
        self.next = Some(token);
        if prompt.is_some() || !text.is_empty() || !logprobs.is_empty() || end.is_some() {
            self.sender.send(Ok(Output::Piece(Piece {
                prompt,
                text,
                tokens: self.generated,
                logprobs,
                so_far: Some(self.usage()),
                stopped_by,
                end,
            })));
        }
        end.is_some()
    }

    /// The maximum number of draft tokens that a step may verify for this request. Each is a
    /// separate output, and so is the one token that is chosen after them.
    pub(super) fn max_draft_tokens(&self) -> usize {
        let left = self.most.saturating_sub(self.generated);
        left.min(self.sender.room()).saturating_sub(1)
    }

    /// Ends the request with an error, because the computation failed.
    pub(super) fn fail(self, error: EngineError) {
        self.sender.send(Err(error));
    }

    fn take(&mut self, token: Token, logits: &[f32], model: &Model) -> (String, Option<Finish>) {
        let mut out = String::new();
        if model.ends(token) {
            self.text.finish(&mut out);
            if let Some(top) = self.top_logprobs.filter(|_| self.shows_end) {
                let mut bytes = Vec::new();
                model.append_written(token, &mut bytes);
                let logprob = token_logprob(model, rank(logits, token, top), bytes);
                self.held_logprobs.push_back((self.text.seen(), logprob));
            }
            return (out, Some(Finish::Stop));
        }
        self.generated += 1;
        let mut bytes = Vec::new();
        model.append_piece(token, &mut bytes);
        let before = self.text.seen();
        let pushed = self.text.push(&bytes, &mut out);
        // A token whose text is only the rest of a stop string is not part of the answer.
        let is_said = pushed == Pushed::More || self.text.seen() > before;
        if let Some(top) = self.top_logprobs.filter(|_| is_said) {
            self.held_logprobs.push_back((
                self.text.seen(),
                token_logprob(model, rank(logits, token, top), bytes),
            ));
        }
        if pushed == Pushed::Stopped {
            return (out, Some(Finish::Stop));
        }
        if self.sampler.is_over() {
            self.text.finish(&mut out);
            return (out, Some(Finish::Stop));
        }
        if self.generated >= self.most {
            self.text.finish(&mut out);
            return (out, Some(self.at_most));
        }
        (out, None)
    }

    fn released_logprobs(&mut self) -> Vec<TokenLogprob> {
        let released = self.text.released();
        let ready = self
            .held_logprobs
            .iter()
            .take_while(|(end, _)| *end <= released)
            .count();
        self.held_logprobs
            .drain(..ready)
            .map(|(_, logprob)| logprob)
            .collect()
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt: self.prompt.len(),
            cached: self.cached,
            completion: self.generated,
        }
    }
}

fn boxed(constraint: AnswerConstraint) -> Box<dyn Constraint> {
    Box::new(constraint)
}

#[cfg(test)]
impl Task {
    /// A request that has only a prompt, for tests of the order in which prompts are read.
    pub(super) fn of_prompt(prompt: &[Token], number: u64) -> Self {
        let inbox = std::sync::Arc::new(super::inbox::Inbox::new(0, 1));
        let (sender, _answer) = super::output_stream::channel(1, inbox);
        let generation = super::generation::Generation {
            prompt: prompt.to_vec().into(),
            scope: None,
            context: usize::MAX,
            max_tokens: None,
            stop: Vec::new(),
            sampling: crate::sample::Sampling::default(),
            constraint: None,
            top_logprobs: None,
            shows_end: false,
            scored: None,
        };
        Self::new(Job { generation, sender }, number, usize::MAX)
    }
}
