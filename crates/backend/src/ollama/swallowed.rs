//! A call that the model wrote wrongly: Ollama swallows it and sends an empty answer whose tokens
//! it counts (`fixtures/ollama/chat/whole-broken-tool-call`). It is asked again, once, with the
//! answer held to the calls' schema.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use loggia_wire::openai::CompletionUsage;

use crate::{BackendError, Chunk, Event, Events};

/// The most tokens that an answer of nothing honestly has: the one that ends it, and one for a
/// template's taste.
const NOTHING: u64 = 2;

/// Asks again.
type Again = BoxFuture<'static, Result<Events, BackendError>>;

/// An answer that is asked for again where it turns out to be swallowed.
pub(super) struct NotSwallowed {
    state: State,
    /// Polled only when needed.
    again: Option<Again>,
    /// Whether anything has been passed on.
    said_something: bool,
    /// The end of an answer of nothing, until its usage tells whether it was one.
    held: Option<Chunk>,
    /// What follows the event that was given out last.
    next: Option<Event>,
    /// What the swallowed answer cost.
    wasted: u64,
}

enum State {
    Speaking(Events),
    Asking(Again),
}

impl NotSwallowed {
    /// `again` must hold its answer to a schema.
    pub(super) fn new(events: Events, again: Again) -> Self {
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

    /// What to give out for an event of the first answer.
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

    /// The tokens of the swallowed answer were generated too.
    fn with_wasted(&self, usage: CompletionUsage) -> CompletionUsage {
        let completion_tokens = usage.completion_tokens + self.wasted;
        CompletionUsage {
            completion_tokens,
            total_tokens: usage.prompt_tokens + completion_tokens,
            ..usage
        }
    }
}

impl Stream for NotSwallowed {
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

/// Whether a chunk is the end of an answer, and nothing else.
fn says_nothing(chunk: &Chunk) -> bool {
    chunk
        .choices
        .iter()
        .all(|choice| choice.finish_reason.is_some() && choice.delta.is_empty())
}
