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
const LINE_LIMIT: usize = 16 << 20;

pin_project_lite::pin_project! {
    /// The events of an answer of Ollama, parsed from the body of the response. Reads ahead by at
    /// most one packet.
    pub(super) struct OllamaEvents<R> {
        #[pin]
        body: R,
        lines: Lines,
        answer: AnswerTranslator,
        backend: Arc<str>,
        // The further events of the last line.
        later: VecDeque<Event>,
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
            later: VecDeque::new(),
            body_ended: false,
            ended: false,
        }
    }

    fn poll_event(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Event>, BackendError>> {
        loop {
            let line = ready!(self.as_mut().poll_line(cx))?;
            let this = self.as_mut().project();
            let Some(line) = line else {
                let mut events = this.answer.finish()?;
                let event = events.next();
                this.later.extend(events);
                return Poll::Ready(Ok(event));
            };
            let mut events = this.answer.push(&line)?;
            if let Some(event) = events.next() {
                this.later.extend(events);
                return Poll::Ready(Ok(Some(event)));
            }
        }
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
        if let Some(event) = self.as_mut().project().later.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.as_mut().poll_event(cx)).transpose();
        if !matches!(event, Some(Ok(_))) {
            *self.project().ended = true;
        }
        Poll::Ready(event)
    }
}
