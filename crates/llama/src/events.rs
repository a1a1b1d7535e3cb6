//! Merges the answers of all choices of one request into one stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_backend::{BackendError, Chunk, EarlyEnd, Event, PromptUsage, Waiting};
use loggia_wire::openai::{CompletionTokensDetails, CompletionUsage, PromptTokensDetails};

use crate::deltas::Deltas;
use crate::engine::{Finish, Output, OutputStream, Piece, Usage};
use crate::error::EngineError;

/// The answers of all choices as one stream of events, in the order in which output arrives. The
/// last event is the sum of their usage.
pub(crate) struct Events {
    /// The answers, by the index of their choice. An answer that has ended is `None`.
    answers: Vec<Option<OutputStream>>,
    /// The converter of each choice's output to deltas.
    deltas: Vec<Deltas>,
    /// Whether the prompt is still being scored. The first choice sends the scores for all choices,
    /// so the others have to wait for it.
    is_being_scored: bool,
    /// The request field that constrains the answers, for errors.
    held_to: &'static str,
    /// The choice to poll first. It rotates, so that a fast choice cannot starve the others.
    first: usize,
    used: Option<Usage>,
    /// Whether the tokens of the prompt were reported.
    has_reported_prompt: bool,
    /// An event that is returned before anything else is polled.
    next: Option<Event>,
    over: bool,
}

impl Events {
    pub(crate) fn new(
        answers: Vec<OutputStream>,
        deltas: Vec<Deltas>,
        is_being_scored: bool,
        held_to: &'static str,
    ) -> Self {
        let answers = answers.into_iter().map(Some).collect();
        Self {
            answers,
            deltas,
            is_being_scored,
            held_to,
            first: 0,
            used: None,
            has_reported_prompt: false,
            next: None,
            over: false,
        }
    }

    /// Translates an engine error. A constraint that is too complex is an error of the client,
    /// because a retry would fail again.
    fn explain(&self, error: &EngineError) -> BackendError {
        let EngineError::Constraint(what) = error else {
            return error.to_backend_error();
        };
        BackendError::InvalidRequest {
            message: format!(
                "Invalid '{}': the answer cannot satisfy it: {what}. Send a simpler one.",
                self.held_to
            ),
            param: Some(self.held_to.to_owned()),
            code: Some("invalid_value".to_owned()),
        }
    }

    /// Polls for the next output of any choice. Returns `None` when all choices have ended.
    fn poll_any(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<Output, EngineError>)>> {
        let count = if self.is_being_scored {
            1
        } else {
            self.answers.len()
        };
        let mut all_ended = true;
        for turn in 0..count {
            let choice = (self.first + turn) % count;
            let Some(answer) = &mut self.answers[choice] else {
                continue;
            };
            all_ended = false;
            if let Poll::Ready(Some(output)) = Pin::new(answer).poll_next(cx) {
                self.first = choice + 1;
                return Poll::Ready(Some((choice, output)));
            }
        }
        if all_ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Converts a piece to a chunk. Returns `None` if there is nothing to send yet.
    fn chunk(&mut self, choice: usize, mut piece: Piece) -> Option<Chunk> {
        if let Some(end) = piece.end {
            self.answers[choice] = None;
            self.used = Some(
                self.used
                    .map_or(end.usage, |used| together(used, end.usage)),
            );
        }
        let so_far = piece.so_far;
        let prompt = piece.prompt.take().unwrap_or_default();
        self.is_being_scored &= !prompt.is_last;
        let of_others = self
            .deltas
            .iter_mut()
            .enumerate()
            .filter(|&(other, _)| other != choice);
        let mut choices: Vec<_> = if prompt.is_empty() {
            Vec::new()
        } else {
            of_others
                .filter_map(|(_, deltas)| deltas.read(Piece::default(), prompt.clone()))
                .collect()
        };
        choices.extend(self.deltas[choice].read(piece, prompt));
        if choices.is_empty() {
            return None;
        }
        let prompt = so_far.filter(|_| !std::mem::replace(&mut self.has_reported_prompt, true));
        Some(Chunk {
            prompt: prompt.map(|usage| PromptUsage {
                tokens: usage.prompt as u64,
                cached: usage.cached as u64,
            }),
            choices,
            ..Chunk::default()
        })
    }

    /// Polls for the next event of any choice. Returns `None` when all choices have ended.
    fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, EngineError>>> {
        loop {
            let event = match ready!(self.poll_any(cx)) {
                None => return Poll::Ready(None),
                Some((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                Some((_, Ok(Output::Reading))) => Event::Waiting(Waiting::ReadingPrompt),
                Some((choice, Ok(Output::Piece(piece)))) => {
                    let finish = piece.end.map(|end| end.finish);
                    let stopped_by = piece.stopped_by.clone();
                    match self.chunk(choice, piece).map(Event::Chunk) {
                        Some(chunk) if finish == Some(Finish::ContextFull) => {
                            self.next = Some(chunk);
                            Event::EndedEarly(EarlyEnd::Context)
                        }
                        Some(chunk) => match stopped_by {
                            Some(stop) => {
                                self.next = Some(chunk);
                                Event::StopString(stop)
                            }
                            None => chunk,
                        },
                        None => continue,
                    }
                }
            };
            return Poll::Ready(Some(Ok(event)));
        }
    }
}

impl Stream for Events {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.next.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.poll_said(cx)) {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                // Dropping the other answers frees their slots.
                self.answers.clear();
                self.over = true;
                Err(self.explain(&error))
            }
            None => {
                self.over = true;
                let reasoning = self.deltas.iter().map(Deltas::reasoning_tokens).sum();
                Ok(Event::Usage(usage(
                    self.used.unwrap_or_default(),
                    reasoning,
                )))
            }
        }))
    }
}

/// Adds the usage of two choices of one request. Their prompt is counted once.
fn together(one: Usage, other: Usage) -> Usage {
    Usage {
        prompt: one.prompt,
        cached: one.cached.min(other.cached),
        completion: one.completion + other.completion,
    }
}

fn usage(usage: Usage, reasoning: usize) -> CompletionUsage {
    let details = PromptTokensDetails {
        cached_tokens: usage.cached as u64,
        ..PromptTokensDetails::default()
    };
    let counted = CompletionUsage::new(usage.prompt as u64, usage.completion as u64);
    let of_answer = CompletionTokensDetails {
        reasoning_tokens: reasoning as u64,
        ..CompletionTokensDetails::default()
    };
    CompletionUsage {
        prompt_tokens_details: Some(details),
        completion_tokens_details: Some(of_answer),
        ..counted
    }
}
