//! The body of a streamed answer: pulls events, writes them, and reports the outcome.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use loggia_backend::{BackendError, Event, Events, PlaceInQueue, ServedBy};
use loggia_wire::frame::sse;
use tokio::time::{Instant, Sleep};

use crate::ApiError;
use crate::answer;
use crate::answer::deadline::Deadline;
use crate::answer::ended::{Ended, Outcome, Progress};
use crate::answer::headers::{self, X_LOGGIA_CUT_SHORT, X_LOGGIA_TRUNCATED};
use crate::answer::interrupt::Interrupt;
use crate::answer::refusal::Refusals;
use crate::answer::writer::{Head, Writer};
use crate::stored::keep::Keeping;

/// The maximum number of bytes collected before they are sent. Events that are ready together are
/// sent together.
const GATHER: usize = 16 << 10;

/// The initial capacity of the buffer: a few chunks. A slow stream never needs more.
const FIRST_BUFFER: usize = 1 << 10;

/// The size that most events do not exceed.
const ROOM: usize = 512;

/// An answer that has begun.
pub(crate) struct StartedAnswer {
    /// The ignored fields of the request.
    pub(crate) ignored: String,
    /// The dropped parts of the input.
    pub(crate) truncated: String,
    pub(crate) served_by: ServedBy,
    pub(crate) events: AnswerEvents,
}

/// The events of an answer that has begun.
pub(crate) struct AnswerEvents {
    /// The first event with content.
    pub(crate) first: Option<Event>,
    pub(crate) events: Events,
    pub(crate) writer: Box<dyn Writer>,
    pub(crate) progress: Progress,
    /// Stores the answer, if the client requested that.
    pub(crate) keeping: Option<Box<Keeping>>,
}

/// A refused request.
pub(crate) struct RefusedAnswer {
    pub(crate) error: ApiError,
    /// The ignored fields of the request, which the refusal lists too.
    pub(crate) ignored: String,
}

/// A future of an answer that has not begun.
pub(crate) type StartingAnswer = BoxFuture<'static, Result<StartedAnswer, RefusedAnswer>>;

/// An answer that has not begun.
pub(crate) struct WaitingAnswer {
    pub(crate) head: Head,
    /// The place of the request in a queue.
    pub(crate) place: PlaceInQueue,
}

/// The body of a streamed answer.
pub(crate) struct EventStream {
    state: State,
    heartbeat: Option<Heartbeat>,
    deadline: Deadline,
    /// Ends the answer from outside.
    interrupt: Option<Arc<Interrupt>>,
    refusals: Refusals,
}

enum State {
    Starting(StartingAnswer, Box<WaitingAnswer>),
    Answering(AnswerEvents),
    Ended(Box<Ended>),
}

struct Heartbeat {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl EventStream {
    /// Creates the body of an answer that has begun.
    pub(crate) fn answering(answer: AnswerEvents, refusals: Refusals) -> Self {
        Self {
            state: State::Answering(answer),
            heartbeat: None,
            deadline: Deadline::default(),
            interrupt: None,
            refusals,
        }
    }

    /// Creates the body of an answer that has not begun. It sends heartbeats until then.
    pub(crate) fn beginning(
        beginning: StartingAnswer,
        waiting: WaitingAnswer,
        heartbeat: Duration,
        refusals: Refusals,
    ) -> Self {
        // The first heartbeat is sent at once, because the client has already waited.
        let heartbeat = Heartbeat {
            every: heartbeat,
            next: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        Self {
            state: State::Starting(beginning, Box::new(waiting)),
            heartbeat: Some(heartbeat),
            deadline: Deadline::default(),
            interrupt: None,
            refusals,
        }
    }

    /// Sets a deadline, after which the answer ends with an error.
    pub(crate) fn until(mut self, end: Option<(Instant, Duration)>) -> Self {
        self.deadline = Deadline::at(end);
        self
    }

    /// Sets the interrupt that can end the answer from outside.
    pub(crate) fn under(self, interrupt: Option<Arc<Interrupt>>) -> Self {
        Self { interrupt, ..self }
    }

    /// Returns how the answer would have ended if the body were dropped now.
    pub(crate) fn so_far(&self) -> Ended {
        match &self.state {
            State::Starting(_, waiting) => Ended {
                model: Some(Arc::clone(&waiting.head.model)),
                ..Ended::new(Outcome::Abandoned)
            },
            State::Answering(answer) => *answer.progress.end(Outcome::Abandoned),
            State::Ended(ended) => Ended::clone(ended),
        }
    }

    /// Returns how the answer ended, after it has.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Returns the next bytes: everything that is ready, up to [`GATHER`].
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = Vec::new();
        self.poll_start(cx, &mut out);
        self.interrupt(&mut out);
        self.poll_speech(cx, &mut out);
        self.poll_deadline(cx, &mut out);
        if out.is_empty() {
            self.poll_heartbeat(cx, &mut out);
        }
        match (out.is_empty(), &self.state) {
            (false, _) => Poll::Ready(Some(out.into())),
            (true, State::Ended(_)) => Poll::Ready(None),
            (true, _) => Poll::Pending,
        }
    }

    /// Checks whether the answer has begun.
    fn poll_start(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let State::Starting(beginning, _) = &mut self.state else {
            return;
        };
        let Poll::Ready(started) = beginning.as_mut().poll(cx) else {
            return;
        };
        let ignored = match &started {
            Ok(started) => &started.ignored,
            Err(refused) => &refused.ignored,
        };
        // The headers have been sent, so a comment lists the ignored fields.
        if !ignored.is_empty() {
            sse::write_comment(out, &format!("x-loggia-ignored: {ignored}"));
        }
        if let Ok(started) = &started
            && !started.served_by.changed.is_empty()
        {
            sse::write_comment(
                out,
                &format!("x-loggia-changed: {}", headers::changes(&started.served_by)),
            );
        }
        if let Ok(started) = &started
            && !started.truncated.is_empty()
        {
            sse::write_comment(out, &format!("{X_LOGGIA_TRUNCATED}: {}", started.truncated));
        }
        match started {
            Ok(started) => self.state = State::Answering(started.events),
            Err(RefusedAnswer { error, .. }) => self.refuse(&error, out),
        }
    }

    /// Ends the answer with an error. Returns the event that reports it, or nothing if the answer
    /// has ended.
    pub(crate) fn end_with(&mut self, error: &ApiError) -> Bytes {
        let mut out = Vec::new();
        self.fail_with(error, &mut out);
        out.into()
    }

    /// Carries out an interruption from outside.
    fn interrupt(&mut self, out: &mut Vec<u8>) {
        let Some(interrupt) = &self.interrupt else {
            return;
        };
        let wanted = interrupt.take();
        for id in wanted.steers {
            let State::Answering(answer) = &mut self.state else {
                break;
            };
            match answer.writer.steer(&id, out) {
                // The engine stops when its events are dropped.
                Ok(true) => {
                    answer.first = None;
                    answer.events = Box::pin(futures_util::stream::empty());
                }
                Ok(false) => {}
                Err(error) => self.fail(error, out),
            }
        }
        if let Some(error) = wanted.error {
            self.fail_with(&error, out);
        }
    }

    /// Writes the events that are ready.
    fn poll_speech(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        while out.len() < GATHER
            && let State::Answering(AnswerEvents {
                first,
                events,
                writer,
                progress,
                keeping,
            }) = &mut self.state
        {
            let event = match first.take() {
                Some(event) => Some(Ok(event)),
                None if keeping.as_ref().is_some_and(|keeping| keeping.is_storing()) => None,
                None => match events.as_mut().poll_next(cx) {
                    Poll::Ready(event) => event,
                    Poll::Pending => return,
                },
            };
            make_room(out);
            let written = match event {
                Some(Ok(event)) => {
                    progress.note(&event);
                    if let Some(keeping) = keeping {
                        keeping.note(&event);
                    }
                    if let Event::EndedEarly(why) = &event {
                        // The headers have been sent.
                        sse::write_comment(out, &format!("{X_LOGGIA_CUT_SHORT}: {}", why.as_str()));
                    }
                    writer.push(event, out).map(|()| false)
                }
                Some(Err(error)) => Err(error),
                None => {
                    match keeping
                        .as_mut()
                        .map(|keeping| keeping.poll_stored(&mut **writer, cx))
                    {
                        Some(Poll::Pending) => return,
                        Some(Poll::Ready(Err(error))) => {
                            self.fail_with(&error, out);
                            return;
                        }
                        Some(Poll::Ready(Ok(()))) | None => {}
                    }
                    writer.finish(out).map(|()| true)
                }
            };
            match written {
                Ok(false) => {}
                Ok(true) => self.state = State::Ended(progress.end(Outcome::Complete)),
                Err(error) => self.fail(error, out),
            }
        }
    }

    /// Ends an answer after its deadline. Called only if nothing else is ready, or enough is
    /// collected.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if let Poll::Ready(error) = self.deadline.poll_error(cx) {
            self.fail(error, out);
        }
    }

    /// Logs an error and ends the answer.
    fn fail(&mut self, error: BackendError, out: &mut Vec<u8>) {
        let error = self.refusals.fail(error);
        self.fail_with(&error, out);
    }

    fn fail_with(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        let error = &self.named(error);
        match &mut self.state {
            State::Starting(..) => self.refuse(error, out),
            State::Answering(answer) => {
                answer.writer.fail(error, out);
                self.state = State::Ended(answer.progress.fail(error));
            }
            State::Ended(_) => {}
        }
    }

    /// Ends an answer that never began.
    fn refuse(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        let error = &self.named(error);
        let mut ended = Box::new(Ended::with_error(error));
        if let State::Starting(_, waiting) = &self.state {
            answer::write_failure(&waiting.head, error, out);
            ended.model = Some(Arc::clone(&waiting.head.model));
        }
        self.state = State::Ended(ended);
    }

    /// Adds the id of the request to an error.
    fn named(&self, error: &ApiError) -> ApiError {
        ApiError {
            request_id: self.refusals.request_id(),
            ..error.clone()
        }
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        while let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.next.as_mut().poll(cx).is_ready()
        {
            if out.is_empty() {
                match &self.state {
                    State::Starting(_, waiting) => answer::write_heartbeat(waiting, out),
                    _ => sse::write_comment(out, "still working"),
                }
            }
            if heartbeat.every.is_zero() {
                self.heartbeat = None;
                return;
            }
            heartbeat
                .next
                .as_mut()
                .reset(Instant::now() + heartbeat.every);
        }
    }
}

/// A full first buffer shows that many events arrived together. The next buffer has the maximum
/// size, so that they are copied once.
fn make_room(out: &mut Vec<u8>) {
    if out.capacity() == 0 {
        out.reserve(FIRST_BUFFER);
    } else if out.capacity() - out.len() < ROOM && out.len() < GATHER {
        out.reserve(GATHER + ROOM - out.len());
    }
}
