//! Retries a chat whose call was dropped. If a model writes a call incorrectly, Ollama drops it and
//! sends an empty answer, but counts its tokens (`fixtures/ollama/chat/whole-broken-tool-call`).
//! The retry, once, constrains the answer to the schema of the calls.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use loggia_wire::openai::CompletionUsage;

use crate::{BackendError, Chunk, Event, Events};

/// The maximum number of tokens of an answer that is really empty: the end token, and one that a
/// template may add.
const NOTHING: u64 = 2;

/// The retry.
type Retry = BoxFuture<'static, Result<Events, BackendError>>;

/// An answer that is requested again if its call was dropped.
pub(super) struct RetryDroppedCall {
    state: State,
    /// The retry. It is polled only if it is needed.
    again: Option<Retry>,
    /// Whether any content has been sent.
    said_something: bool,
    /// The end of an empty answer, held until the usage shows whether a call was dropped.
    held: Option<Chunk>,
    /// The event after the last one.
    next: Option<Event>,
    /// The number of tokens of the dropped call.
    wasted: u64,
}

enum State {
    Speaking(Events),
    Asking(Retry),
}

impl RetryDroppedCall {
    /// Creates the stream. `again` must constrain its answer to a schema.
    pub(super) fn new(events: Events, again: Retry) -> Self {
        let again = Some(again);
        Self {
            state: State::Speaking(events),
            again,
            said_something: false,
            held: None,
            next: None,
            wasted: 0,
        }
    }

    /// Returns the event to send for an event of the first answer.
    fn first(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Chunk(chunk) if !self.said_something && says_nothing(&chunk) => {
                self.held = Some(chunk);
                None
            }
            Event::Usage(usage) => match (self.held.take(), self.again.take()) {
                (Some(_), Some(again)) if usage.completion_tokens > NOTHING => {
                    self.wasted = usage.completion_tokens;
                    self.state = State::Asking(again);
                    None
                }
                (Some(end), _) => {
                    self.next = Some(Event::Usage(usage));
                    Some(Event::Chunk(end))
                }
                (None, _) => Some(Event::Usage(usage)),
            },
            event => {
                self.said_something |= matches!(event, Event::Chunk(_));
                Some(event)
            }
        }
    }

    /// Adds the tokens of the dropped call to the usage, because they were generated too.
    fn with_wasted(&self, usage: CompletionUsage) -> CompletionUsage {
        let completion_tokens = usage.completion_tokens + self.wasted;
        CompletionUsage {
            completion_tokens,
            total_tokens: usage.prompt_tokens + completion_tokens,
            ..usage
        }
    }
}

impl Stream for RetryDroppedCall {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.next.take() {
                return Poll::Ready(Some(Ok(event)));
            }
            let event = match &mut self.state {
                State::Speaking(events) => ready!(events.as_mut().poll_next(cx)),
                State::Asking(again) => match ready!(again.as_mut().poll(cx)) {
                    Ok(events) => {
                        self.state = State::Speaking(events);
                        continue;
                    }
                    Err(error) => Some(Err(error)),
                },
            };
            match event {
                Some(Ok(Event::Usage(usage))) if self.wasted > 0 => {
                    return Poll::Ready(Some(Ok(Event::Usage(self.with_wasted(usage)))));
                }
                Some(Ok(event)) if self.wasted == 0 => {
                    if let Some(event) = self.first(event) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
                None if self.held.is_some() => {
                    let end = self.held.take().map(|chunk| Ok(Event::Chunk(chunk)));
                    return Poll::Ready(end);
                }
                event => return Poll::Ready(event),
            }
        }
    }
}

/// Returns whether a chunk only ends the answer.
fn says_nothing(chunk: &Chunk) -> bool {
    chunk
        .choices
        .iter()
        .all(|choice| choice.finish_reason.is_some() && choice.delta.is_empty())
}
