//! Runs several calls in parallel and returns them as the choices of one answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use loggia_wire::openai::{CompletionTokensDetails, CompletionUsage};

use crate::{BackendError, Event, Events, Reply};

/// Merges several replies into one. `replies` must not be empty; an empty list gives an answer that
/// was cut short.
pub(super) fn side_by_side(mut replies: Vec<Reply>) -> Reply {
    let served_by = replies[0].served_by.clone();
    let numbered = replies.drain(..).zip(0_u32..);
    let events = numbered.map(|(reply, index)| {
        reply
            .events
            .map(move |event| event.map(|event| of_choice(event, index)))
            .boxed()
    });
    let events = Choices {
        events: events.collect(),
        usage: None,
        ended: false,
    };
    Reply {
        served_by,
        events: Box::pin(events),
    }
}

/// The events of all choices in the order of arrival, then the usage once.
struct Choices {
    events: SelectAll<Events>,
    usage: Option<CompletionUsage>,
    ended: bool,
}

impl Stream for Choices {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.events.poll_next_unpin(cx)) {
                Some(Ok(Event::Usage(usage))) => add(&mut self.usage, usage),
                Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(self.usage.take().map(|usage| Ok(Event::Usage(usage))));
                }
            }
        }
    }
}

fn of_choice(mut event: Event, index: u32) -> Event {
    if let Event::Chunk(chunk) = &mut event {
        chunk
            .choices
            .iter_mut()
            .for_each(|choice| choice.index = index);
    }
    event
}

/// Adds the usage of another choice. The prompt counts once, as with OpenAI, because all choices
/// share it. Generated tokens are added.
pub(super) fn add(all: &mut Option<CompletionUsage>, more: CompletionUsage) {
    let Some(all) = all else {
        *all = Some(more);
        return;
    };
    all.prompt_tokens = all.prompt_tokens.max(more.prompt_tokens);
    all.completion_tokens += more.completion_tokens;
    all.total_tokens = all.prompt_tokens + all.completion_tokens;
    let reasoning = |usage: &CompletionUsage| {
        usage
            .completion_tokens_details
            .as_ref()
            .map_or(0, |details| details.reasoning_tokens)
    };
    let reasoning_tokens = reasoning(all) + reasoning(&more);
    let details = all.completion_tokens_details.take().unwrap_or_default();
    all.completion_tokens_details = Some(CompletionTokensDetails {
        reasoning_tokens,
        ..details
    });
}
