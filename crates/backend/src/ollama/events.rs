//! Reads the body of an Ollama answer as a stream of events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::Body;
use loggia_wire::frame::Lines;
use tower::BoxError;

use super::answer::AnswerTranslator;
use super::error::transport_error;
use crate::{BackendError, Event};

/// The maximum length of a line. A complete answer is one line, log-probabilities included.
pub(super) const LINE_LIMIT: usize = 16 << 20;

pin_project_lite::pin_project! {
    /// The events of an answer of Ollama, parsed from the body of the response. Reads ahead by at
    /// most one packet.
    pub(super) struct OllamaEvents<R> {
        #[pin]
        body: R,
        lines: Lines,
        answer: AnswerTranslator,
        backend: Arc<str>,
        // The events of the last line that were not returned yet.
        events: VecDeque<Event>,
        body_ended: bool,
        ended: bool,
    }
}

impl<R> OllamaEvents<R>
where
    R: Body<Data: Buf, Error: Into<BoxError>>,
{
    pub(super) fn new(body: R, answer: AnswerTranslator, backend: Arc<str>) -> Self {
        let lines = Lines::new(LINE_LIMIT);
        Self {
            body,
            lines,
            answer,
            backend,
            // The last line has two events, every other line has one.
            events: VecDeque::with_capacity(2),
            body_ended: false,
            ended: false,
        }
    }

    /// Reads lines until one has an event, or until the end of the answer.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BackendError>> {
        while self.events.is_empty() {
            let line = ready!(self.as_mut().poll_line(cx))?;
            let this = self.as_mut().project();
            let Some(line) = line else {
                return Poll::Ready(this.answer.finish(this.events));
            };
            this.answer.push(&line, this.events)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the next line that is not blank, or `None` at the end of the body.
    fn poll_line(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, BackendError>> {
        let mut this = self.project();
        loop {
            if *this.body_ended {
                return Poll::Ready(Ok(this.lines.finish()));
            }
            match this.lines.next_line() {
                Ok(Some(line)) if line.is_empty() => continue,
                Ok(Some(line)) => return Poll::Ready(Ok(Some(line))),
                Ok(None) => {}
                Err(error) => {
                    let backend = this.backend.to_string();
                    return Poll::Ready(Err(BackendError::BadAnswer {
                        backend,
                        what: error.to_string(),
                    }));
                }
            }
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        this.lines.push(data.copy_to_bytes(data.remaining()));
                    }
                }
                // An error of the connection after the last line does not affect the answer.
                None | Some(Err(_)) if this.answer.is_done() => *this.body_ended = true,
                None => *this.body_ended = true,
                Some(Err(error)) => {
                    return Poll::Ready(Err(transport_error(error.into(), this.backend)));
                }
            }
        }
    }
}

impl<R> Stream for OllamaEvents<R>
where
    R: Body<Data: Buf, Error: Into<BoxError>>,
{
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.events.is_empty() && !self.ended {
            let read = ready!(self.as_mut().poll_read(cx));
            let this = self.as_mut().project();
            if let Err(error) = read {
                *this.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            *this.ended = this.events.is_empty();
        }
        Poll::Ready(self.project().events.pop_front().map(Ok))
    }
}
