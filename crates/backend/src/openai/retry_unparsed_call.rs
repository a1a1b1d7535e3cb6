//! Retries a chat whose call llama-server could not parse, because the model wrote it incorrectly.
//! The server answers 500 or ends the stream with an error. The retry, once, constrains the answer
//! to the schema of the calls.

use futures_core::future::BoxFuture;
use futures_util::{StreamExt, stream};

use crate::{BackendError, Event, Events, Reply};

/// Parts of the server's message. The second is from older versions.
const WORDS: [&str; 2] = ["does not match the expected", "Failed to parse input"];

/// The retry.
pub(super) type Retry = BoxFuture<'static, Result<Reply, BackendError>>;

/// Returns the answer, or the answer of the retry. If the retry fails too, returns the first error,
/// which has the reason.
pub(super) async fn or_again(
    reply: Result<Reply, BackendError>,
    again: Retry,
) -> Result<Reply, BackendError> {
    match reply {
        Ok(Reply { served_by, events }) => Ok(Reply {
            served_by,
            events: with_another(events, again),
        }),
        Err(error) if is_unparsed_call(&error) => again.await.map_err(|_| error),
        Err(error) => Err(error),
    }
}

/// Replaces the error in a stream by the events of the retry, unless a piece of a call has been
/// sent.
fn with_another(events: Events, again: Retry) -> Events {
    let began = (events, Some(again));
    let events = stream::unfold(began, |(mut events, mut again)| async move {
        loop {
            let event = match (events.next().await, again.take()) {
                (Some(Err(error)), Some(again)) if is_unparsed_call(&error) => match again.await {
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

fn is_unparsed_call(error: &BackendError) -> bool {
    matches!(error, BackendError::Engine { message } if WORDS.iter().any(|words| message.contains(words)))
}

fn is_part_of_a_call(event: &Event) -> bool {
    matches!(event, Event::Chunk(chunk) if chunk.choices.iter().any(|choice| choice.delta.tool_calls.is_some()))
}
