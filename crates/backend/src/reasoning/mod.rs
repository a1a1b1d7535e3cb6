//! Reasoning that a model writes into its text, told apart from it: `<think>…</think>` at the very
//! beginning becomes `reasoning_content` and `reasoning`. For engines that leave it where it is;
//! what an engine has told apart itself passes as it is.
//!
//! [`Apart`] stands around the events of an answer; `choice.rs` reads the text of one choice. Not
//! for the embedded engine, which reads the syntax of a model's own family.

mod choice;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_wire::openai::{CompletionUsage, Delta};

use self::choice::Choice;
use crate::{BackendError, Chunk, Event};

pin_project_lite::pin_project! {
    /// An answer with its reasoning told apart.
    #[derive(Debug)]
    pub(crate) struct Apart<S> {
        #[pin]
        events: S,
        answer: Answer,
    }
}

impl<S> Apart<S> {
    /// Around the events of an answer of so many choices.
    pub(crate) fn new(events: S, choices: usize) -> Self {
        let answer = Answer {
            choices: (0..choices).map(|_| Choice::default()).collect(),
            ..Answer::default()
        };
        Self { events, answer }
    }
}

impl<S: Stream<Item = Result<Event, BackendError>>> Stream for Apart<S> {
    type Item = Result<Event, BackendError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            match ready!(this.events.as_mut().poll_next(cx)) {
                Some(Ok(Event::Chunk(chunk))) => {
                    if let Some(chunk) = this.answer.read(chunk) {
                        return Poll::Ready(Some(Ok(Event::Chunk(chunk))));
                    }
                }
                Some(Ok(Event::Usage(usage))) => {
                    return Poll::Ready(Some(Ok(Event::Usage(this.answer.with_thoughts(usage)))));
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// What is known of an answer, chunk by chunk.
#[derive(Debug, Default)]
struct Answer {
    choices: Vec<Choice>,
    /// Of a first chunk that was held back.
    created: Option<u64>,
}

impl Answer {
    /// What a chunk says; none where all of it is held back.
    fn read(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        let was_empty = chunk.choices.is_empty();
        chunk.choices.retain_mut(|said| {
            under_both_names(&mut said.delta);
            // An index that was not asked for is none of this module's business.
            let choice = usize::try_from(said.index)
                .ok()
                .and_then(|index| self.choices.get_mut(index));
            choice.is_none_or(|choice| choice.read(said))
        });
        if chunk.choices.is_empty() && !was_empty && chunk.extra.is_empty() {
            self.created = self.created.or(chunk.created);
            return None;
        }
        chunk.created = self.created.take().or(chunk.created);
        Some(chunk)
    }

    /// Tokens of reasoning can be counted where each token came by itself, with its
    /// log-probability. What the engine has counted holds.
    fn with_thoughts(&self, mut usage: CompletionUsage) -> CompletionUsage {
        let thoughts: u64 = self.choices.iter().map(Choice::thought_tokens).sum();
        if thoughts > 0 {
            let details = usage.completion_tokens_details.get_or_insert_default();
            if details.reasoning_tokens == 0 {
                details.reasoning_tokens = thoughts.min(usage.completion_tokens);
            }
        }
        usage
    }
}

/// Engines write reasoning under one name, and clients read one or the other.
fn under_both_names(delta: &mut Delta) {
    match (&delta.reasoning_content, &delta.reasoning) {
        (Some(text), None) => delta.reasoning = Some(text.clone()),
        (None, Some(text)) => delta.reasoning_content = Some(text.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
