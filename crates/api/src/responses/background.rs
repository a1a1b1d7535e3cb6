//! Responses that are made in the background: the client gets the unfinished response at once, and
//! a task continues to work on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{Response, StatusCode};
use loggia_backend::{Backend, BackendError, Call, Reply};
use loggia_wire::openai::responses::ResponseStatus;
use tokio::runtime::Handle;

use crate::admit::Asked;
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, event_stream, name_ignored, name_truncated, within};
use crate::answer::refusal::Refusals;
use crate::answer::stream::took_too_long;
use crate::answer::writer::Writer;
use crate::generate::{Admitted, admitted, respond, start};
use crate::responses::ask::AskedResponse;
use crate::responses::live::{Entry, Running};
use crate::responses::server_tools::ServerTools;
use crate::responses::turn::{RENEWED_EVERY, hold};
use crate::responses::writer::ResponseWriter;
use crate::store::{Kind, Owner};
use crate::stored::damaged;
use crate::stored::keep::Keep;
use crate::{ApiError, Body, Door};

/// Answers a request for a background response.
pub(crate) async fn answer(door: &Door, asked: Asked<AskedResponse>) -> Response<Body> {
    let (profile, refusals) = (asked.head.profile, asked.refusals.clone());
    match Box::pin(begin(door, asked, &refusals)).await {
        Ok(response) => response,
        Err(error) => respond(Err(error), profile, ""),
    }
}

/// Stores the unfinished response, and starts the task.
async fn begin(
    door: &Door,
    asked: Asked<AskedResponse>,
    refusals: &Refusals,
) -> Result<Response<Body>, ApiError> {
    let is_streamed = asked.request.is_streamed();
    let shape = Arc::clone(&asked.request.shape);
    let owner = Owner::new(asked.head.caller.clone());
    let Admitted {
        call,
        head,
        progress,
        ignored,
        truncated,
        keep,
        tools,
    } = admitted(door, asked).await?;
    let keep = keep.ok_or_else(damaged)?;
    let entered = door
        .live
        .enter_background(Arc::clone(&head.id), owner, is_streamed);
    let entry = entered.ok_or_else(too_many)?;

    let mut writer = ResponseWriter::streaming(&head, shape);
    let queued = {
        let response = writer.so_far();
        response.status = ResponseStatus::Queued;
        let turn = keep.turn().ok_or_else(damaged)?;
        keep.write(turn.begin(response, &head.id)?).await?;
        let queued = serde_json::to_vec(response).map_err(|_| damaged())?;
        response.status = ResponseStatus::InProgress;
        queued
    };
    let followed = is_streamed.then(|| {
        let every = door.policy.heartbeat_every;
        Arc::clone(&entry.running).follow(0, Some(every))
    });
    let task = Task {
        backend: Arc::clone(&door.backend),
        tools,
        limit: door.policy.ceilings.whole_time,
        refusals: refusals.clone(),
        writer,
        progress,
        keep,
        entry,
    };
    let runtime = door.runtime.clone();
    runtime
        .unwrap_or_else(Handle::current)
        .spawn(task.run(call));
    let mut response = if let Some(events) = followed {
        event_stream(Body::events(events))
    } else {
        headers::json(Body::whole(queued))
    };
    name_ignored(&mut response, &ignored);
    name_truncated(&mut response, &truncated);
    Ok(response)
}

fn too_many() -> ApiError {
    let message = "Too many responses are being made in the background. Try again later.";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).coded("rate_limit_exceeded")
}

/// Makes one response in the background.
struct Task {
    backend: Arc<dyn Backend>,
    tools: Option<Arc<ServerTools>>,
    limit: Option<Duration>,
    refusals: Refusals,
    writer: ResponseWriter,
    progress: Progress,
    keep: Box<Keep>,
    entry: Entry,
}

impl Task {
    async fn run(mut self, call: Call) {
        let running = Arc::clone(&self.entry.running);
        let id = self.writer.so_far().id.clone();
        let mut last = Vec::new();
        let made = {
            let starting = start(&self.backend, call, self.tools.take());
            let making = make(starting, &mut self.writer, &mut self.progress, &running);
            let limit = self.limit;
            let mut making = std::pin::pin!(making);
            let making = within(limit, &mut making);
            let holding = keep_held(&self.keep, &id);
            tokio::select! {
                biased;
                () = running.cancelled() => None,
                () = holding => None,
                made = making => {
                    Some(made.unwrap_or_else(|| Err(took_too_long(limit.unwrap_or_default()))))
                }
            }
        };
        let outcome = match made {
            Some(Ok(())) => match self.writer.finish(&mut last) {
                Ok(()) => Outcome::Complete,
                Err(error) => self.fail(error, &mut last),
            },
            Some(Err(error)) => self.fail(error, &mut last),
            None => {
                self.writer.cancel();
                Outcome::Abandoned
            }
        };
        let stored = self.store(&id, &last).await;
        if stored.is_ok() {
            running.push(&mut last);
        } else {
            // When the hold runs out, the next client that fetches the response finds that it
            // failed.
            tracing::warn!(response = %id, "the end of a background response was not stored");
        }
        let usage = self.progress.end(outcome).usage;
        let tokens = usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
        tracing::info!(response = %id, ?outcome, ?tokens, "a background response ended");
    }

    fn fail(&mut self, error: BackendError, last: &mut Vec<u8>) -> Outcome {
        let error = self.refusals.fail(error);
        self.writer.fail(&error, last);
        Outcome::Failed
    }

    async fn store(&mut self, id: &str, last: &[u8]) -> Result<(), ApiError> {
        let stream = self.entry.running.log().map(|mut log| {
            log.extend_from_slice(last);
            log
        });
        let turn = self.keep.turn().ok_or_else(damaged)?;
        let changes = turn.replace(self.writer.so_far(), id, stream)?;
        self.keep.write(changes).await?;
        turn.was_stored();
        Ok(())
    }
}

/// Calls the engine and writes all events except the last into the log.
async fn make(
    starting: impl Future<Output = Result<Reply, BackendError>>,
    writer: &mut ResponseWriter,
    progress: &mut Progress,
    running: &Running,
) -> Result<(), BackendError> {
    let mut out = Vec::new();
    writer.begin(&mut out)?;
    running.push(&mut out);
    let mut reply = starting.await?;
    progress.accepted(&reply.served_by);
    while let Some(event) = reply.events.next().await {
        let event = event?;
        progress.note(&event);
        writer.push(event, &mut out)?;
        running.push(&mut out);
    }
    Ok(())
}

/// Renews the hold on the response. Returns when the hold is lost: the response was deleted, or
/// another server cancelled it.
async fn keep_held(keep: &Keep, id: &str) {
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        if keep.has_lost(hold(Kind::Response, id, id)).await {
            return;
        }
    }
}
