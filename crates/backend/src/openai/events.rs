//! Reads the body of a streamed answer as a stream of events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use http_body::Body as _;
use http_body_util::BodyExt;
use loggia_wire::frame::{LineTooLong, sse};

use super::answer::StreamedAnswer;
use crate::http::Body;
use crate::{BackendError, Event};

/// The maximum size of a frame in bytes, log-probabilities included.
const FRAME_LIMIT: usize = 16 << 20;

/// The time limit for the end of the body after `[DONE]`. After it, the connection is closed
/// instead of reused.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// A streamed answer. Reads ahead by at most one packet.
#[derive(Debug)]
pub(super) struct OpenAiEvents {
    /// `None` after the end of the body.
    body: Option<Body>,
    frames: sse::Events,
    answer: StreamedAnswer,
    backend: Arc<str>,
    /// Events that were read before the answer was returned, or that follow at once. At most two.
    ahead: VecDeque<Result<Event, BackendError>>,
}

impl OpenAiEvents {
    pub(super) fn new(backend: Arc<str>, body: Body, answer: StreamedAnswer) -> Self {
        Self {
            body: Some(body),
            frames: sse::Events::new(FRAME_LIMIT),
            answer,
            backend,
            ahead: VecDeque::new(),
        }
    }

    /// Waits for the first chunk. It shows that the engine has accepted the request; an error
    /// before it can still be a status code.
    pub(super) async fn begin(&mut self) -> Result<(), BackendError> {
        if let Some(first) = std::future::poll_fn(|cx| self.poll_event(cx)).await {
            self.ahead.push_front(Ok(first?));
        }
        Ok(())
    }

    /// Returns the engine's own fingerprint, if it has one.
    pub(super) fn system_fingerprint(&self) -> Option<&str> {
        self.answer.system_fingerprint()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, BackendError>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            if self.answer.is_done() {
                return Poll::Ready(self.end(cx));
            }
            match self.frames.next_event() {
                Ok(Some(frame)) => match self.answer.push(&frame) {
                    Ok(Some(chunk)) => return Poll::Ready(Some(Ok(Event::Chunk(chunk)))),
                    Ok(None) => continue,
                    Err(error) => return self.fail(error),
                },
                Ok(None) => {}
                Err(error) => return self.fail(self.too_long(error)),
            }
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(data);
                    }
                }
                // An error of the connection after the end of every choice does not affect the
                // answer.
                Some(Err(_)) if self.answer.is_whole() => {
                    return Poll::Ready(self.end_without_done());
                }
                Some(Err(error)) => {
                    let error = error.into_backend(&self.backend);
                    return self.fail(error);
                }
                None => return Poll::Ready(self.end_without_done()),
            }
        }
    }

    /// Handles the end of the body without `[DONE]`. The last event may lack its blank line.
    fn end_without_done(&mut self) -> Option<Result<Event, BackendError>> {
        self.body = None;
        let last = match self.frames.finish() {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => self.answer.push(&frame),
            Err(error) => Err(self.too_long(error)),
        };
        let usage = match last {
            Ok(chunk) => {
                self.ahead
                    .extend(chunk.map(|chunk| Ok(Event::Chunk(chunk))));
                self.answer.finish()
            }
            Err(error) => Err(error),
        };
        self.ahead
            .extend(usage.map(|usage| usage.map(Event::Usage)).transpose());
        self.ahead.pop_front()
    }

    /// Handles `[DONE]`. The connection can be reused after its last bytes are read.
    fn end(&mut self, cx: &mut Context<'_>) -> Option<Result<Event, BackendError>> {
        if let Some(mut body) = self.body.take()
            && Pin::new(&mut body).poll_frame(cx).is_pending()
        {
            let last_bytes = async move { while let Some(Ok(_)) = body.frame().await {} };
            tokio::spawn(tokio::time::timeout(LAST_BYTES, last_bytes));
        }
        self.answer
            .finish()
            .map(|usage| usage.map(Event::Usage))
            .transpose()
    }

    fn fail(&mut self, error: BackendError) -> Poll<Option<Result<Event, BackendError>>> {
        self.body = None;
        Poll::Ready(Some(Err(error)))
    }

    fn too_long(&self, error: LineTooLong) -> BackendError {
        BackendError::BadAnswer {
            backend: self.backend.to_string(),
            what: error.to_string(),
        }
    }
}

impl Stream for OpenAiEvents {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.ahead.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.poll_event(cx),
        }
    }
}
