//! Responses over a WebSocket. A [`Session`] is the state of one connection. It knows no socket: it
//! takes frames of the client and returns frames for the client.
//!
//! Each `response.create` is answered like `POST /v1/responses` with `stream: true`: by
//! [`Door::respond`](crate::Door::respond), which the server wraps in its layers. The events of the
//! answer become frames.
//!
//! Reading order: this file, `envelope.rs` (frames of the client), `create.rs` (starts one
//! response), `running.rs` (one response), `events.rs` (handles its events), `frames.rs` (frames
//! for the client), `local.rs` (unstored responses, which can be continued on the same connection),
//! `steer.rs` and `accept_steer.rs` (input for a response that is being made).

mod accept_steer;
mod create;
mod envelope;
mod events;
mod frames;
pub(crate) mod link;
pub(crate) mod local;
mod running;
mod steer;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tower::{Service, ServiceExt};

use self::link::Link;
use crate::{ApiError, Door, RequestId};
use accept_steer::NO_SUCCESSOR;
pub use create::Create;
use envelope::{ClientFrame, CreateFrame};
use local::Local;
use running::{Running, Step};
use steer::{Pending, Steer};

/// The maximum number of responses that are made at the same time, as OpenAI has it.
const MOST_RUNNING: usize = 16;

/// The maximum number of names of lanes, as OpenAI has it.
const MOST_LANES: usize = 32;

/// The maximum number of requests that wait for an earlier one of their lane.
const MOST_WAITING: usize = 64;

/// The state of one WebSocket connection. It makes several responses: one after the other in each
/// lane, and the lanes run in parallel.
///
/// [`receive`](Self::receive) takes a frame of the client, and [`next`](Self::next) returns the
/// next frame for the client. Nothing is computed ahead: a response goes on only when its frames
/// are taken.
pub struct Session<S, B> {
    /// Answers a request for one response.
    service: S,
    /// The head of every request.
    head: Head,
    local: Arc<Local>,
    lanes: Vec<Lane<B>>,
    /// The lane that is looked at first.
    first: usize,
    /// Frames for the client that wait to be sent.
    ready: VecDeque<Bytes>,
    /// The maximum number of bytes of requests that wait.
    most_bytes: usize,
    asked: u64,
    /// Why no more responses are made.
    closing: Option<ApiError>,
}

/// The head of every request of a session.
struct Head {
    request_id: Option<Arc<str>>,
    template: Parts,
}

/// Responses that are made one after the other.
struct Lane<B> {
    name: Option<Arc<str>>,
    running: Option<Running<B>>,
    waiting: VecDeque<CreateFrame>,
    /// The response that continues a steered one. It is made before the waiting ones.
    successor: Option<(CreateFrame, Vec<Steer>)>,
    pending: Option<Pending>,
    /// The last response that has ended.
    last: Option<String>,
}

impl<S, B> Session<S, B>
where
    S: Service<Request<Create>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Display> + Unpin + Send + 'static,
{
    /// Begins the session of a connection that was opened by a request with this head. `service`
    /// answers the requests of the session: the door, inside of what the server puts around it.
    pub fn new(door: &Door, opened_by: &Parts, service: S) -> Self {
        let most_bytes = door.policy.body_limit;
        Self {
            service,
            head: Head::of(opened_by),
            local: Arc::new(Local::new(door.sessions.clone(), most_bytes)),
            lanes: Vec::new(),
            first: 0,
            ready: VecDeque::new(),
            most_bytes,
            asked: 0,
            closing: None,
        }
    }

    /// Takes a frame of the client.
    pub fn receive(&mut self, frame: Bytes) {
        match envelope::read(frame) {
            Ok(ClientFrame::Create(create)) => self.create(create),
            Ok(ClientFrame::Steer(steer)) => self.steer(steer),
            Err((lane, error)) => self.refuse(error, lane.as_deref()),
        }
    }

    /// Whether every frame that is ready was taken. Otherwise, frames of the client should not be
    /// read, so that frames for the client do not accumulate.
    pub fn can_receive(&self) -> bool {
        self.ready.is_empty()
    }

    /// Returns the next frame for the client. Waits forever if no response is being made.
    pub async fn next(&mut self) -> Bytes {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next frame for the client.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(frame);
            }
            let Some((at, step)) = self.poll_step(cx) else {
                return Poll::Pending;
            };
            match step {
                Step::Event(event) => self.event(at, event),
                Step::Refused(status, headers, body) => self.refused(at, status, &headers, &body),
                Step::Over => self.over(at),
            }
        }
    }

    /// Whether no response is being made and every frame was taken.
    pub fn is_idle(&self) -> bool {
        let waits = |lane: &Lane<B>| !lane.waiting.is_empty() || lane.successor.is_some();
        self.ready.is_empty() && self.running() == 0 && !self.lanes.iter().any(waits)
    }

    /// Ends the session: requests from now on are refused with this error.
    pub fn close(&mut self, error: ApiError) {
        for at in 0..self.lanes.len() {
            let waiting = std::mem::take(&mut self.lanes[at].waiting);
            for create in waiting {
                self.refuse(error.clone(), create.lane.as_deref());
            }
        }
        self.closing = Some(error);
    }

    /// Ends every response with this error.
    pub fn fail(&mut self, error: &ApiError) {
        self.close(error.clone());
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            match &lane.running {
                Some(running) if running.has_begun() => running.link.interrupt.fail(error.clone()),
                Some(_) => {
                    let name = lane.name.clone();
                    let running = lane.running.take();
                    self.refuse(error.clone(), name.as_deref());
                    if let Some(running) = running {
                        self.return_input(&running.succeeds, NO_SUCCESSOR, name.as_deref());
                    }
                }
                None => {}
            }
        }
    }

    /// The next thing that comes of any response. Lanes take turns.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Option<(usize, Step)> {
        let count = self.lanes.len();
        for offset in 0..count {
            let at = (self.first + offset) % count;
            if let Some(running) = &mut self.lanes[at].running
                && let Poll::Ready(step) = running.poll_step(cx)
            {
                self.first = at + 1;
                return Some((at, step));
            }
        }
        None
    }

    /// The number of responses that have not ended.
    fn running(&self) -> usize {
        let running = self.lanes.iter().filter_map(|lane| lane.running.as_ref());
        running.filter(|running| !running.has_ended).count()
    }

    /// `response.create`.
    fn create(&mut self, mut create: CreateFrame) {
        if let Some(error) = &self.closing {
            return self.refuse(error.clone(), create.lane.as_deref());
        }
        let Some(at) = self.lane(create.lane.as_ref()) else {
            let message = format!("A connection has at most {MOST_LANES} streams.");
            return self.refuse(limit_reached(message), create.lane.as_deref());
        };
        let lane = &mut self.lanes[at];
        let mut pending = Vec::new();
        if let Some(waiting) = &lane.pending
            && create.previous.as_deref() == Some(&*waiting.previous)
        {
            pending = lane
                .pending
                .take()
                .map_or(pending, |pending| pending.steers);
            create = create.after(steer::messages(&pending));
        }
        if lane.running.is_none() {
            if self.running() >= MOST_RUNNING {
                let name = create.lane.as_deref();
                self.return_input(&pending, NO_SUCCESSOR, name);
                let message = format!(
                    "A connection makes at most {MOST_RUNNING} responses at the same time."
                );
                return self.refuse(limit_reached(message), name);
            }
            return self.start(at, create, pending);
        }
        let all = || self.lanes.iter().flat_map(|lane| &lane.waiting);
        let bytes: usize = all().map(|create| create.frame.len()).sum();
        if all().count() >= MOST_WAITING || bytes + create.frame.len() > self.most_bytes {
            let message = "Too many requests wait for earlier ones of their stream.".to_owned();
            return self.refuse(limit_reached(message), create.lane.as_deref());
        }
        self.lanes[at].waiting.push_back(create);
    }

    /// The lane with this name. `None` if there are too many.
    fn lane(&mut self, name: Option<&Arc<str>>) -> Option<usize> {
        let found = self
            .lanes
            .iter()
            .position(|lane| lane.name.as_ref() == name);
        if found.is_some() {
            return found;
        }
        let named = self.lanes.iter().filter(|lane| lane.name.is_some());
        if name.is_some() && named.count() >= MOST_LANES {
            return None;
        }
        self.lanes.push(Lane {
            name: name.cloned(),
            running: None,
            waiting: VecDeque::new(),
            successor: None,
            pending: None,
            last: None,
        });
        Some(self.lanes.len() - 1)
    }

    fn start(&mut self, at: usize, create: CreateFrame, succeeds: Vec<Steer>) {
        let link = Arc::new(Link::new(Arc::clone(&self.local)));
        let request = self.head.request(
            self.asked,
            Create {
                frame: create.frame,
                link: Arc::clone(&link),
            },
        );
        self.asked += 1;
        let service = self.service.clone();
        let starting = Box::pin(async move {
            let answered = service.oneshot(request).await;
            answered.unwrap_or_else(|never| match never {})
        });
        let mut running = Running::new(starting, link);
        running.previous = create.previous;
        running.can_be_steered = create.can_be_steered;
        running.settings = create.settings;
        running.succeeds = succeeds;
        self.lanes[at].running = Some(running);
    }

    /// A response of a lane is over: starts the next one.
    fn over(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let name = lane.name.clone();
        let has_ended = lane
            .running
            .as_ref()
            .is_none_or(|running| running.has_ended);
        if !has_ended {
            let message = "The response ended without its last event.";
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message);
            self.failed(at);
            self.refuse(error, name.as_deref());
        }
        let lane = &mut self.lanes[at];
        lane.running = None;
        if let Some((successor, steers)) = lane.successor.take() {
            if self.closing.is_some() {
                return self.return_input(&steers, NO_SUCCESSOR, name.as_deref());
            }
            return self.start(at, successor, steers);
        }
        if let Some(create) = lane.waiting.pop_front() {
            // The request may continue a response that was steered.
            self.create(create);
        }
    }

    fn refuse(&mut self, error: ApiError, lane: Option<&str>) {
        self.ready.push_back(frames::error(error, lane));
    }
}

fn limit_reached(message: String) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).coded("websocket_stream_limit_reached")
}

impl Head {
    /// Takes the parts of the opening request that every response needs: the client's key, and the
    /// host name by which it reached the server.
    fn of(opened_by: &Parts) -> Self {
        let (mut template, ()) = Request::new(()).into_parts();
        template.method = Method::GET;
        template.uri = opened_by.uri.clone();
        let host = opened_by.headers.get(http::header::HOST);
        if let Some(host) = host {
            template.headers.insert(http::header::HOST, host.clone());
        }
        if let Some(caller) = opened_by.extensions.get::<crate::Caller>() {
            template.extensions.insert(caller.clone());
        }
        Self {
            request_id: RequestId::of(opened_by),
            template,
        }
    }

    /// The request with this number. Its id is that of the connection, and the number.
    fn request(&self, number: u64, create: Create) -> Request<Create> {
        let mut parts = self.template.clone();
        if let Some(id) = &self.request_id {
            let id = format!("{id}.{number}");
            parts.extensions.insert(RequestId(id.into()));
        }
        Request::from_parts(parts, create)
    }
}
