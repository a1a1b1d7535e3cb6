//! Responses that are made in the background: the client gets the unfinished response at once, and
//! a task continues to work on it. [`Background`] ends the tasks before the server stops.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use http::{Response, StatusCode};
use loggia_backend::{Backend, BackendError, Call, Reply};
use loggia_wire::openai::responses::{ResponseError, ResponseStatus};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::admit::ParsedRequest;
use crate::answer::deadline::took_too_long;
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, event_stream, name_ignored, name_truncated, within};
use crate::answer::refusal::Refusals;
use crate::answer::writer::Writer;
use crate::generate::{Admitted, Steps, admitted, respond, start};
use crate::responses::accounts::Account;
use crate::responses::ask::ResponseAsChat;
use crate::responses::live::{Entry, Live, NotEntered, Running, Stop};
use crate::responses::turn::{RENEWED_EVERY, abandoned_later, is_added, renewed};
use crate::responses::writer::ResponseWriter;
use crate::store::{Kind, Owner, StoreError};
use crate::stored::damaged;
use crate::stored::keep::Keep;
use crate::{ApiError, Body, Door};

/// How long storing the end of a response is retried while the store is unavailable.
const TRIED_FOR: Duration = Duration::from_secs(30);

/// The pauses between two tries: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const SERVER_STOPPED: &str = "The server was stopped before the response ended.";

/// Answers a request for a background response.
pub(crate) async fn answer(door: &Door, asked: ParsedRequest<ResponseAsChat>) -> Response<Body> {
    let (profile, refusals) = (asked.head.profile, asked.refusals.clone());
    let model = asked.progress.model();
    match Box::pin(begin(door, asked, &refusals)).await {
        Ok(response) => response,
        Err(error) => respond(Err(error), profile, "").map(|body| body.about_model(model)),
    }
}

/// Stores the unfinished response, and starts the task.
async fn begin(
    door: &Door,
    asked: ParsedRequest<ResponseAsChat>,
    refusals: &Refusals,
) -> Result<Response<Body>, ApiError> {
    let is_streamed = asked.request.is_streamed();
    let shape = Arc::clone(&asked.request.shape);
    let caller = asked.head.caller.clone();
    let owner = Owner::new(caller.clone());
    let Admitted {
        call,
        head,
        progress,
        ignored,
        truncated,
        keep,
        steps,
    } = admitted(door, asked).await?;
    let keep = keep.ok_or_else(damaged)?;
    let entered = door
        .live
        .enter_background(Arc::clone(&head.id), owner, is_streamed);
    let entry = entered.map_err(not_entered)?;

    let mut writer = ResponseWriter::streaming(&head, shape);
    let queued = store_queued(&mut writer, &keep, &head.id).await?;
    let heartbeat = Some(door.policy.heartbeat_every);
    let followed = is_streamed.then(|| Arc::clone(&entry.running).follow(0, heartbeat));
    let account = Account {
        listener: door.background_listener.clone(),
        request_id: refusals.request_id(),
        trace: call.head.trace.clone(),
        caller,
        is_stream: is_streamed,
        arrived: progress.arrived(),
        ended: None,
    };
    let task = Task {
        backend: Arc::clone(&door.backend),
        steps,
        limit: door.policy.ceilings.whole_time,
        refusals: refusals.clone(),
        writer,
        progress,
        account,
        error: None,
        keep,
        stores_stream: true,
        entry,
    };
    let runtime = door.runtime.clone();
    runtime
        .unwrap_or_else(Handle::current)
        .spawn(task.run(call));
    let mut response = first_answer(queued, followed);
    name_ignored(&mut response, &ignored);
    name_truncated(&mut response, &truncated);
    Ok(response)
}

/// Returns the answer to the request that started the task: its events, if the client asked for a
/// stream, or the unfinished response.
fn first_answer(queued: Vec<u8>, events: Option<BoxStream<'static, Bytes>>) -> Response<Body> {
    match events {
        Some(events) => event_stream(Body::events_going_on(events)),
        None => headers::json(Body::going_on(queued)),
    }
}

/// Stores the response as `queued`, and returns its JSON for the client.
async fn store_queued(
    writer: &mut ResponseWriter,
    keep: &Keep,
    id: &str,
) -> Result<Vec<u8>, ApiError> {
    let response = writer.so_far();
    response.status = ResponseStatus::Queued;
    let turn = keep.turn().ok_or_else(damaged)?;
    keep.write(turn.begin(response, id)?).await?;
    let queued = serde_json::to_vec(response).map_err(|_| damaged())?;
    response.status = ResponseStatus::InProgress;
    Ok(queued)
}

fn not_entered(why: NotEntered) -> ApiError {
    match why {
        NotEntered::TooMany => {
            let message = "Too many responses are being made in the background. Try again later.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).coded("rate_limit_exceeded")
        }
        NotEntered::ServerStops => {
            let message = "The server is shutting down. Try again after it has restarted.";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("server_stopping")
        }
    }
}

/// The error of a response whose server stopped before it had ended.
pub(crate) fn server_stopped() -> ResponseError {
    ResponseError {
        code: "server_error".to_owned(),
        message: SERVER_STOPPED.to_owned(),
        param: None,
        kind: Some("server_error".to_owned()),
    }
}

/// The background responses of a [`Door`].
#[derive(Clone, Debug)]
pub struct Background {
    live: Arc<Live>,
}

impl Background {
    pub(crate) fn of(door: &Door) -> Self {
        let live = Arc::clone(&door.live);
        Self { live }
    }

    /// Returns the number of background responses that are being made.
    pub fn count(&self) -> usize {
        self.live.in_background()
    }

    /// Refuses new background responses, and waits until those that are being made have ended and
    /// are stored. Those that take longer are stopped and stored as failed, shortly before `within`
    /// is over. A program calls this before it stops.
    pub async fn finish(&self, within: Duration) {
        self.live.finish(within).await;
    }
}

/// Makes one response in the background.
struct Task {
    backend: Arc<dyn Backend>,
    steps: Steps,
    limit: Option<Duration>,
    refusals: Refusals,
    writer: ResponseWriter,
    progress: Progress,
    account: Account,
    /// The code of the error, or its type, if the response has failed.
    error: Option<Arc<str>>,
    keep: Box<Keep>,
    /// Whether the events are stored, if there is a log of them.
    stores_stream: bool,
    entry: Entry,
}

/// The reason why a task ends.
enum End {
    /// The engine has answered, or failed.
    Answered(Result<(), BackendError>),
    Stopped(Stop),
    /// The response was deleted, or another server has cancelled it.
    Lost,
}

impl Task {
    async fn run(mut self, call: Call) {
        let running = Arc::clone(&self.entry.running);
        let id = self.writer.so_far().id.clone();
        let end = {
            let starting = start(&self.backend, call, std::mem::take(&mut self.steps));
            let making = make(starting, &mut self.writer, &mut self.progress, &running);
            let limit = self.limit;
            let mut making = std::pin::pin!(making);
            let making = within(limit, &mut making);
            let holding = keep_held(&self.keep, &id);
            tokio::select! {
                biased;
                stop = running.stopped() => End::Stopped(stop),
                () = holding => End::Lost,
                made = making => End::Answered(
                    made.unwrap_or_else(|| Err(took_too_long(limit.unwrap_or_default())))
                ),
            }
        };
        let is_lost = matches!(end, End::Lost);
        let mut last = Vec::new();
        let mut outcome = self.end(end, &mut last);
        // The task that has taken over the response has stored its end, too.
        let stored = if is_lost {
            Ok(())
        } else {
            self.store(&id, &mut last).await
        };
        match stored {
            Ok(()) => running.push(&mut last),
            Err(error) => {
                // When the hold runs out, the response has failed: `abandoned.rs`.
                tracing::warn!(response = %id, %error, "the end of a background response was not stored");
            }
        }
        if self.writer.so_far().status == ResponseStatus::Failed {
            outcome = Outcome::Failed;
        }
        self.release().await;
        let mut ended = self.progress.end(outcome);
        ended.error = self.error.take();
        let tokens = ended.usage.as_ref();
        let tokens = tokens.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
        tracing::info!(response = %id, ?outcome, ?tokens, "a background response ended");
        self.account.end(ended);
    }

    /// Ends the response, and writes its last event.
    fn end(&mut self, end: End, last: &mut Vec<u8>) -> Outcome {
        match end {
            End::Answered(Ok(())) => match self.writer.finish(last) {
                Ok(()) => Outcome::Complete,
                Err(error) => self.fail(error, last),
            },
            End::Answered(Err(error)) => self.fail(error, last),
            End::Stopped(Stop::Cancelled) | End::Lost => {
                self.writer.cancel(last);
                Outcome::Abandoned
            }
            End::Stopped(Stop::ServerStops) => {
                let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_STOPPED);
                self.error = Some(error.label().into());
                self.writer.fail(&error, last);
                Outcome::Failed
            }
        }
    }

    fn fail(&mut self, error: BackendError, last: &mut Vec<u8>) -> Outcome {
        let error = self.refusals.fail(error);
        self.error = Some(error.label().into());
        self.writer.fail(&error, last);
        Outcome::Failed
    }

    /// Stores the end of the response. While the store does not work, it is tried again for some
    /// time. An end that can never be stored becomes a failure.
    async fn store(&mut self, id: &str, last: &mut Vec<u8>) -> Result<(), StoreError> {
        let until = Instant::now() + TRIED_FOR;
        let mut pause = FIRST_PAUSE;
        let mut has_failed = false;
        loop {
            let Err(error) = self.try_to_store(id, last).await else {
                return Ok(());
            };
            let is_away = match error {
                StoreError::Unavailable { .. } => true,
                // The disk has no room, not even for a failure.
                StoreError::Full => has_failed,
                _ => false,
            };
            if !is_away && !has_failed && error != StoreError::InUse {
                // The response is too large, or its conversation was deleted.
                has_failed = true;
                let why = self.keep.worded(&error);
                self.error = Some(why.label().into());
                self.writer.fail_instead(&why, last);
                if error == StoreError::Full {
                    self.writer.so_far().output.clear();
                    self.stores_stream = false;
                }
                continue;
            }
            if !is_away || Instant::now() + pause > until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_to_store(&mut self, id: &str, last: &[u8]) -> Result<(), StoreError> {
        let log = self.entry.running.log().filter(|_| self.stores_stream);
        let stream = log.map(|mut log| {
            log.extend_from_slice(last);
            log
        });
        let Some(turn) = self.keep.turn() else {
            return Ok(());
        };
        let changes = turn.replace(self.writer.so_far(), id, stream);
        let mut changes = changes.map_err(|_| StoreError::Unavailable {
            cause: "a response that cannot be written as JSON".to_owned(),
        })?;
        changes.extend(self.keep.webhooks(self.writer.so_far()).await?);
        self.keep.try_to_write(changes).await?;
        if is_added(self.writer.so_far()) {
            turn.was_stored();
        }
        Ok(())
    }

    /// Ends the hold on the conversation, if it was not ended with the response.
    async fn release(&self) {
        if let Some(turn) = self.keep.turn() {
            turn.release_conversation().await;
        }
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
        let renewal = vec![renewed(Kind::Response, id, id), abandoned_later(id)];
        if keep.has_lost(renewal).await {
            return;
        }
    }
}
