//! [`Running`]: one response that a session is making: its request, then its stream of events.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use http::{HeaderMap, Response, StatusCode};
use loggia_wire::frame::sse::{Event, Events};

use super::link::Link;
use super::steer::Steer;

/// One response that a session is making.
pub(super) struct Running<B> {
    state: State<B>,
    pub(super) link: Arc<Link>,
    /// The response's id, once its first event has come.
    pub(super) id: Option<String>,
    /// The response that this one continues.
    pub(super) previous: Option<String>,
    pub(super) can_be_steered: bool,
    /// The settings of the request, for a response that continues this one.
    pub(super) settings: Arc<str>,
    /// The inputs that steer this response.
    pub(super) steers: Vec<Steer>,
    /// Inputs that steered the response that this one continues. They are lost if this response
    /// never begins.
    pub(super) succeeds: Vec<Steer>,
    /// Whether the last event of the response has come.
    pub(super) has_ended: bool,
}

enum State<B> {
    Starting(BoxFuture<'static, Response<B>>),
    Streaming(B, Events),
    Refused(StatusCode, HeaderMap, B, BytesMut),
    Over,
}

/// A step of a response.
pub(super) enum Step {
    Event(Event),
    /// The response was refused with this error.
    Refused(StatusCode, HeaderMap, Bytes),
    /// Nothing more comes.
    Over,
}

impl<B> Running<B>
where
    B: http_body::Body<Data = Bytes, Error: Display> + Unpin,
{
    pub(super) fn new(starting: BoxFuture<'static, Response<B>>, link: Arc<Link>) -> Self {
        Self {
            state: State::Starting(starting),
            link,
            id: None,
            previous: None,
            can_be_steered: false,
            settings: Arc::from(""),
            steers: Vec::new(),
            succeeds: Vec::new(),
            has_ended: false,
        }
    }

    /// Returns whether the answer has begun, so that it can end with an event of its own.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.state, State::Streaming(..))
    }

    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match &mut self.state {
                State::Starting(starting) => {
                    let (head, body) = ready!(starting.as_mut().poll(cx)).into_parts();
                    self.state = if head.status == StatusCode::OK {
                        // The server's own events are as long as the answer.
                        State::Streaming(body, Events::new(usize::MAX))
                    } else {
                        State::Refused(head.status, head.headers, body, BytesMut::new())
                    };
                }
                State::Streaming(body, events) => {
                    if let Ok(Some(event)) = events.next_event() {
                        return Poll::Ready(Step::Event(event));
                    }
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    match frame.and_then(Result::ok) {
                        Some(frame) => events.push(frame.into_data().unwrap_or_default()),
                        None => self.state = State::Over,
                    }
                }
                State::Refused(status, headers, body, bytes) => {
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    if let Some(frame) = frame.and_then(Result::ok) {
                        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                        continue;
                    }
                    let (status, headers) = (*status, std::mem::take(headers));
                    let bytes = std::mem::take(bytes).freeze();
                    self.state = State::Over;
                    return Poll::Ready(Step::Refused(status, headers, bytes));
                }
                State::Over => return Poll::Ready(Step::Over),
            }
        }
    }
}
