//! Separates reasoning from the text: `<think>…</think>` at the beginning becomes
//! `reasoning_content` and `reasoning`. For engines that leave it in the text. Reasoning that an
//! engine has separated passes unchanged.
//!
//! [`SeparateReasoning`] wraps the events of an answer; `choice.rs` handles the text of one choice. Not for the
//! embedded engine, which knows the syntax of each model family.

mod choice;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_wire::openai::{CompletionUsage, Delta};

use self::choice::Choice;
use crate::{BackendError, Chunk, Event};

pin_project_lite::pin_project! {
    /// The events of an answer, with its reasoning separated.
    #[derive(Debug)]
    pub(crate) struct SeparateReasoning<S> {
        #[pin]
        events: S,
        answer: AnswerState,
    }
}

impl<S> SeparateReasoning<S> {
    /// Wraps the events of an answer with this number of choices.
    pub(crate) fn new(events: S, choices: usize) -> Self {
        let answer = AnswerState {
            choices: (0..choices).map(|_| Choice::default()).collect(),
            ..AnswerState::default()
        };
        Self { events, answer }
    }
}

impl<S: Stream<Item = Result<Event, BackendError>>> Stream for SeparateReasoning<S> {
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

/// The state of an answer.
#[derive(Debug, Default)]
struct AnswerState {
    choices: Vec<Choice>,
    /// The creation time, from a first chunk that was held back.
    created: Option<u64>,
}

impl AnswerState {
    /// Separates the content of a chunk. Returns `None` if all of it is held back.
    fn read(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        let was_empty = chunk.choices.is_empty();
        chunk.choices.retain_mut(|said| {
            under_both_names(&mut said.delta);
            // A choice that was not requested is ignored here.
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

    /// Adds the number of reasoning tokens, if each token arrived separately with its
    /// log-probability. A count of the engine takes precedence.
    fn with_thoughts(&self, mut usage: CompletionUsage) -> CompletionUsage {
        let thoughts: u64 = self.choices.iter().map(Choice::reasoning_tokens).sum();
        if thoughts > 0 {
            let details = usage.completion_tokens_details.get_or_insert_default();
            if details.reasoning_tokens == 0 {
                details.reasoning_tokens = thoughts.min(usage.completion_tokens);
            }
        }
        usage
    }
}

/// Copies reasoning to both field names: engines use one, and clients read one or the other.
fn under_both_names(delta: &mut Delta) {
    match (&delta.reasoning_content, &delta.reasoning) {
        (Some(text), None) => delta.reasoning = Some(text.clone()),
        (None, Some(text)) => delta.reasoning_content = Some(text.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
