//! A call that the model wrote wrongly: llama.cpp's server cannot read it, and answers 500, or ends
//! the stream with an error. It is asked again, once, with the answer held to the calls' schema.

use futures_core::future::BoxFuture;
use futures_util::{StreamExt, stream};

use crate::{BackendError, Event, Events, Reply};

/// What the server says then; the second are the words of older ones.
const WORDS: [&str; 2] = ["does not match the expected", "Failed to parse input"];

/// Asks again.
pub(super) type Again = BoxFuture<'static, Result<Reply, BackendError>>;

/// The answer, or the one that comes when it is asked again; where none does, the first error tells
/// why.
pub(super) async fn or_again(
    reply: Result<Reply, BackendError>,
    again: Again,
) -> Result<Reply, BackendError> {
    match reply {
        Ok(Reply { served_by, events }) => Ok(Reply {
            served_by,
            events: with_another(events, again),
        }),
        Err(error) if is_misread(&error) => again.await.map_err(|_| error),
        Err(error) => Err(error),
    }
}

/// The events, and in place of the error the events of another answer: not where a part of a call
/// has been passed on.
fn with_another(events: Events, again: Again) -> Events {
    let began = (events, Some(again));
    let events = stream::unfold(began, |(mut events, mut again)| async move {
        loop {
            let event = match (events.next().await, again.take()) {
                (Some(Err(error)), Some(again)) if is_misread(&error) => match again.await {
                    Ok(reply) => {
                        events = reply.events;
                        continue;
                    }
                    Err(_) => Some(Err(error)),
                },
                (event, kept) => {
                    again = kept
                        .filter(|_| !matches!(&event, Some(Ok(event)) if is_part_of_a_call(event)));
                    event
                }
            };
            return event.map(|event| (event, (events, again)));
        }
    });
    Box::pin(events)
}

fn is_misread(error: &BackendError) -> bool {
    matches!(error, BackendError::Engine { message } if WORDS.iter().any(|words| message.contains(words)))
}

fn is_part_of_a_call(event: &Event) -> bool {
    matches!(event, Event::Chunk(chunk) if chunk.choices.iter().any(|choice| choice.delta.tool_calls.is_some()))
}
