//! One chat: parse, find, ask, answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use loggia_backend::{Ability, Backend, BackendError, ChatCall, Event, Events, Profile, ServedBy};
use loggia_wire::openai::ChatCompletionRequest;
use tokio::time::Instant;

use crate::collect::Collector;
use crate::encode::{Encoder, Head};
use crate::ignored::listed;
use crate::stream::{Beginning, Begun, EventStream, NotBegun, Speech, took_too_long};
use crate::{
    ApiError, Body, Caller, Door, Ended, Outcome, RequestId, Strictness, engine_options, fields, files, id, read,
    request,
};

const X_LOGGIA_IGNORED: HeaderName = HeaderName::from_static("x-loggia-ignored");
const X_LOGGIA_SERVED_BY: HeaderName = HeaderName::from_static("x-loggia-served-by");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the buffer of a whole answer holds at first: a short one. It grows for a longer one.
const FIRST_BUFFER: usize = 1000;

/// A request that was read: everything about it but what its model can do.
struct Asked {
    request: Arc<ChatCompletionRequest>,
    profile: Profile,
    strictness: Strictness,
    /// The head of the client's request, where it goes along. Else it goes at once: what waits for an engine should hold little.
    forwarded: Option<Arc<Parts>>,
    request_id: Option<Arc<str>>,
}

/// A request that was let in.
struct Admitted {
    call: ChatCall,
    head: Head,
    /// What has no effect, for `x-loggia-ignored`.
    ignored: String,
}

impl Door {
    /// `POST /v1/chat/completions`.
    pub(crate) async fn chat<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let asked = match read.and_then(|bytes| self.parse(parts, &bytes)) {
            Ok(asked) => asked,
            // From before the model, and so its profile, was known.
            Err(error) => return error.under(self.policy.profile).response(),
        };
        if asked.request.streams() { self.stream(asked).await } else { self.whole(asked).await }
    }

    fn parse(&self, parts: Parts, body: &[u8]) -> Result<Asked, ApiError> {
        let (request, profile) = request::parse_chat(body, &self.policy)?;
        let request_id = parts.extensions.get::<RequestId>().map(|id| Arc::clone(&id.0));
        let its_own = parts.extensions.get::<Caller>().and_then(|caller| caller.strictness);
        let strictness = its_own.unwrap_or_else(|| self.policy.strictness_of(&request.model));
        let forwarded = self.forwards_head.then(|| Arc::new(parts));
        Ok(Asked { request, profile, strictness, forwarded, request_id })
    }

    /// Compares what is asked with what the model can do. Waits where the model has to be loaded to know.
    async fn admit(&self, asked: Asked) -> Result<Admitted, ApiError> {
        let Asked { request: mut shared, profile, strictness, forwarded, request_id } = asked;
        let can = self.backend.abilities(&shared.model).await;
        let can = can.map_err(|error| refused(error, request_id.as_deref()))?;
        // Nobody else holds it yet, so nothing is copied.
        let request = Arc::make_mut(&mut shared);
        files::unpack(request, &can)?;
        let ignored = fields::settle(request, &can, strictness)?;
        if let Some(options) = self.policy.options_of(&request.model)
            && can.has(Ability::EngineOptions)
        {
            engine_options::add(request, options);
        }
        if request.token_limit().is_none() {
            request.max_completion_tokens = self.policy.ceilings.answer_tokens.map(i64::from);
        }
        let head = head(request, profile);
        let id = Arc::clone(&head.id);
        let call = ChatCall { id, request: shared, profile, head: forwarded };
        Ok(Admitted { call, head, ignored: listed(&ignored) })
    }

    async fn whole(&self, asked: Asked) -> Response<Body> {
        let (limit, profile, request_id) = (self.policy.ceilings.whole_time, asked.profile, asked.request_id.clone());
        let mut ignored = String::new();
        let answered = {
            let mut answering = pin!(self.answer_whole(asked, &mut ignored));
            let overdue = || Err(refused(took_too_long(limit.unwrap_or_default()), request_id.as_deref()));
            within(limit, &mut answering).await.unwrap_or_else(overdue)
        };
        let mut response = answered.unwrap_or_else(|error| error.under(profile).response());
        name_ignored(&mut response, &ignored);
        response
    }

    async fn answer_whole(&self, asked: Asked, ignored: &mut String) -> Result<Response<Body>, ApiError> {
        let request_id = asked.request_id.clone();
        let Admitted { call, head, ignored: without_effect } = self.admit(asked).await?;
        *ignored = without_effect;
        let answered = answer_whole(&*self.backend, call, &head).await;
        let (served_by, json, usage) = answered.map_err(|error| refused(error, request_id.as_deref()))?;
        let mut response = Response::new(Body::ending(json, Ended { outcome: Outcome::Complete, usage }));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_server(&mut response, &served_by);
        Ok(response)
    }

    /// A stream is begun when its first event is there: whatever goes wrong by then is a status code. Past
    /// `heartbeat_after` it is begun all the same, so that no client or proxy on the way gives up.
    async fn stream(&self, asked: Asked) -> Response<Body> {
        let (profile, request_id) = (asked.profile, asked.request_id.clone());
        let mut beginning: Beginning = Box::pin(self.clone().begin(asked));
        let whole = self.policy.ceilings.whole_time;
        let until = whole.map(|time| (Instant::now() + time, time));
        let beats = self.policy.heartbeat_after.filter(|after| whole.is_none_or(|whole| *after < whole));
        let Some(begun) = within(beats.or(whole), &mut beginning).await else {
            if beats.is_none() {
                let overdue = took_too_long(whole.unwrap_or_default());
                return refused(overdue, request_id.as_deref()).under(profile).response();
            }
            let events = EventStream::beginning(beginning, profile, self.policy.heartbeat_every, request_id);
            return event_stream(events.until(until));
        };
        match begun {
            Ok(Begun { ignored, served_by, speech }) => {
                let mut response = event_stream(EventStream::speaking(speech, request_id).until(until));
                name_server(&mut response, &served_by);
                name_ignored(&mut response, &ignored);
                response
            }
            Err(NotBegun { error, ignored }) => {
                let mut response = error.under(profile).response();
                name_ignored(&mut response, &ignored);
                response
            }
        }
    }

    /// Asks the engine, and waits for the first event that says something.
    async fn begin(self, asked: Asked) -> Result<Begun, NotBegun> {
        let request_id = asked.request_id.clone();
        let admitted = self.admit(asked).await;
        let Admitted { call, head, ignored } = admitted.map_err(|error| NotBegun { error, ignored: String::new() })?;
        match first_event(&*self.backend, call).await {
            Ok((served_by, first, events)) => {
                let mut encoder = Encoder::new(head);
                encoder.served_by(&served_by);
                Ok(Begun { ignored, served_by, speech: Speech { first, events, encoder } })
            }
            Err(error) => Err(NotBegun { error: refused(error, request_id.as_deref()), ignored }),
        }
    }
}

fn head(request: &ChatCompletionRequest, profile: Profile) -> Head {
    Head {
        id: id::completion(profile),
        model: request.model.as_str().into(),
        profile,
        choices: request.choices(),
        include_usage: request.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true),
    }
}

type Whole = (ServedBy, Bytes, Option<loggia_wire::openai::CompletionUsage>);

async fn answer_whole(backend: &dyn Backend, call: ChatCall, head: &Head) -> Result<Whole, BackendError> {
    let mut reply = backend.chat(call).await?;
    let mut collector = Collector::new(head.choices);
    while let Some(event) = reply.events.next().await {
        collector.push(event?);
    }
    let completion = collector.finish(head, &reply.served_by)?;
    let mut json = Vec::with_capacity(FIRST_BUFFER);
    serde_json::to_writer(&mut json, &completion)
        .map_err(|_| BackendError::Engine { message: "an answer that cannot be written as JSON".to_owned() })?;
    Ok((reply.served_by, json.into(), completion.usage))
}

/// Starts the chat, and waits until it has begun.
async fn first_event(backend: &dyn Backend, call: ChatCall) -> Result<(ServedBy, Option<Event>, Events), BackendError> {
    let mut reply = backend.chat(call).await?;
    let first = reply.first_word().await?;
    Ok((reply.served_by, first, reply.events))
}

/// What the future gives within the time; `None` when that is over, with the future still to be waited for.
async fn within<F: Future + Unpin>(time: Option<Duration>, future: &mut F) -> Option<F::Output> {
    match time {
        Some(time) => tokio::time::timeout(time, future).await.ok(),
        None => Some(future.await),
    }
}

/// Logs a refusal, once, without a word of the client's.
fn refused(error: BackendError, request_id: Option<&str>) -> ApiError {
    let cause = error.kind();
    let error = ApiError::from(error);
    if error.status.is_server_error() {
        tracing::warn!(request_id, cause, status = error.status.as_u16(), "a chat failed");
    } else {
        tracing::debug!(request_id, cause, status = error.status.as_u16(), "a chat was refused");
    }
    error
}

fn event_stream(events: EventStream) -> Response<Body> {
    let mut response = Response::new(Body::stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx holds a stream back unless told not to.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn name_server(response: &mut Response<Body>, served_by: &ServedBy) {
    let ServedBy { backend, model, node, .. } = served_by;
    let value = match node {
        Some(node) => [backend, "@", node, "; model=", model].concat(),
        None => [backend, "; model=", model].concat(),
    };
    insert(response, X_LOGGIA_SERVED_BY, &value);
}

/// Names what has no effect, where there is such a thing.
fn name_ignored(response: &mut Response<Body>, ignored: &str) {
    if !ignored.is_empty() {
        insert(response, X_LOGGIA_IGNORED, ignored);
    }
}

/// Sets a header; a value that is none (a model's name with a line end in it) is left out.
fn insert(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
