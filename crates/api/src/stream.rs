//! The body of a streamed answer: pulls events, writes them, tells how it ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use loggia_backend::{BackendError, Event, Events, Phase, ServedBy};
use loggia_wire::frame::sse;
use tokio::time::{Instant, Sleep};

use crate::encode::Encoder;
use crate::{ApiError, Ended, Outcome};

/// How much is gathered before it is handed on. Events that are ready together leave together.
const GATHER: usize = 16 << 10;

/// What a first buffer holds: a few chunks. A stream of slow tokens never needs more.
const FIRST_BUFFER: usize = 1 << 10;

/// An answer that the engine has accepted, up to its first event.
pub(crate) struct Begun {
    pub(crate) served_by: ServedBy,
    /// The first event that says something.
    pub(crate) first: Option<Event>,
    pub(crate) events: Events,
}

/// An answer on its way to being begun.
pub(crate) type Beginning = BoxFuture<'static, Result<Begun, BackendError>>;

/// The body of a streamed answer.
pub(crate) struct EventStream {
    state: State,
    encoder: Encoder,
    heartbeat: Option<Heartbeat>,
    /// When it must have ended, and how long that was.
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    request_id: Option<Arc<str>>,
    ended: Option<Ended>,
}

enum State {
    Beginning(Beginning),
    Speaking { first: Option<Event>, events: Events },
    Ended,
}

struct Heartbeat {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl EventStream {
    /// The body of an answer that has begun.
    pub(crate) fn speaking(begun: Begun, mut encoder: Encoder, request_id: Option<Arc<str>>) -> Self {
        encoder.served_by(&begun.served_by);
        let state = State::Speaking { first: begun.first, events: begun.events };
        Self { state, encoder, heartbeat: None, deadline: None, request_id, ended: None }
    }

    /// The body of an answer that has not: heartbeats, until it has.
    pub(crate) fn beginning(
        beginning: Beginning,
        encoder: Encoder,
        heartbeat: Duration,
        request_id: Option<Arc<str>>,
    ) -> Self {
        // The first heartbeat leaves at once: the client has waited long enough to see something.
        let heartbeat = Heartbeat { every: heartbeat, next: Box::pin(tokio::time::sleep(Duration::ZERO)) };
        Self {
            state: State::Beginning(beginning),
            encoder,
            heartbeat: Some(heartbeat),
            deadline: None,
            request_id,
            ended: None,
        }
    }

    /// The same, to be ended with an error when the time is over.
    pub(crate) fn until(mut self, time: Option<Duration>) -> Self {
        self.deadline = time.map(|time| (Box::pin(tokio::time::sleep(time)), time));
        self
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The next bytes: all that is ready, up to [`GATHER`].
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = BytesMut::new();
        while out.len() < GATHER && !matches!(self.state, State::Ended) {
            match self.poll_event(cx) {
                Poll::Ready(event) => {
                    if out.capacity() == 0 {
                        out.reserve(FIRST_BUFFER);
                    }
                    self.write(event, &mut out);
                }
                Poll::Pending => break,
            }
        }
        if let Some(error) = self.poll_deadline(cx) {
            self.write(Some(Err(error)), &mut out);
        }
        if out.is_empty() && !matches!(self.state, State::Ended) {
            self.poll_heartbeat(cx, &mut out);
        }
        match (out.is_empty(), &self.state) {
            (false, _) => Poll::Ready(Some(out.freeze())),
            (true, State::Ended) => Poll::Ready(None),
            (true, _) => Poll::Pending,
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, BackendError>>> {
        if let State::Beginning(beginning) = &mut self.state {
            match beginning.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Ok(begun)) => {
                    self.encoder.served_by(&begun.served_by);
                    self.state = State::Speaking { first: begun.first, events: begun.events };
                }
            }
        }
        match &mut self.state {
            State::Speaking { first, events } => match first.take() {
                Some(event) => Poll::Ready(Some(Ok(event))),
                None => events.as_mut().poll_next(cx),
            },
            State::Beginning(_) | State::Ended => Poll::Ready(None),
        }
    }

    fn write(&mut self, event: Option<Result<Event, BackendError>>, out: &mut BytesMut) {
        let written = match event {
            Some(Ok(event)) => self.encoder.push(event, out).map(|()| None),
            Some(Err(error)) => Err(error),
            None => self.encoder.finish(out).map(|()| Some(Outcome::Complete)),
        };
        match written {
            Ok(None) => {}
            Ok(Some(outcome)) => self.end(outcome),
            Err(error) => {
                tracing::warn!(request_id = self.request_id.as_deref(), cause = error.kind(), "a stream failed");
                self.encoder.fail(&ApiError::from(error), out);
                self.end(Outcome::Failed);
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.ended = Some(Ended { outcome, usage: self.encoder.usage().cloned() });
    }

    /// The error of an answer whose time is over. Asked only where nothing else is ready, or enough is gathered.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Option<BackendError> {
        let (deadline, after) = self.deadline.as_mut().filter(|_| !matches!(self.state, State::Ended))?;
        let over = deadline.as_mut().poll(cx).is_ready();
        let after = *after;
        over.then(|| took_too_long(after))
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        while heartbeat.next.as_mut().poll(cx).is_ready() {
            if out.is_empty() {
                sse::write_comment(out, "still working");
            }
            heartbeat.next.as_mut().reset(Instant::now() + heartbeat.every);
        }
    }
}

/// The error of an answer, whole or streamed, that has not ended within its time.
pub(crate) fn took_too_long(after: Duration) -> BackendError {
    BackendError::TimedOut { backend: "of this model".to_owned(), phase: Phase::Whole, after }
}
