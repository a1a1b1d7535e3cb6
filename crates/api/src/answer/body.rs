//! The body of a response: complete, or a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use http_body::{Frame, SizeHint};

use crate::ApiError;
use crate::answer::ended::{Ended, Outcome};
use crate::answer::stream::EventStream;
use crate::audio::body::AudioBody;
use crate::ollama_api::body::OllamaBody;
use crate::store::blobs::Pieces;

/// The body of a response. Dropping it releases what it holds: the connection to the engine and its
/// slot.
pub struct Body(Kind);

enum Kind {
    Whole {
        bytes: Option<Bytes>,
        ended: Box<Ended>,
    },
    Stream(Box<EventStream>),
    /// Events that were written before, or that another task writes.
    Events {
        events: BoxStream<'static, Bytes>,
        /// Whether the request has begun the work that writes them.
        goes_on: bool,
        ended: Option<Box<Ended>>,
    },
    /// A content of known length, which is read as it is sent.
    Content {
        pieces: Pieces,
        left: u64,
        ended: Option<Box<Ended>>,
    },
    /// Speech, or the events of a transcription, as they arrive.
    Audio(Box<AudioBody>),
    /// An answer of Ollama's own API, as it arrives.
    Ollama(Box<OllamaBody>),
}

impl Body {
    /// Creates a complete body.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::ending(bytes, Box::new(Ended::new(Outcome::Complete)))
    }

    /// Creates a complete body that reports an error.
    pub(crate) fn failed(bytes: impl Into<Bytes>, error: &ApiError) -> Self {
        Self::ending(bytes, Box::new(Ended::with_error(error)))
    }

    /// Adds the model name that the client sent to a body that reports an error.
    #[must_use]
    pub(crate) fn about_model(mut self, model: Option<Arc<str>>) -> Self {
        if let Kind::Whole { ended, .. } = &mut self.0
            && ended.model.is_none()
        {
            ended.model = model;
        }
        self
    }

    /// Returns the model name that the client sent, if the body is complete.
    pub(crate) fn model(&self) -> Option<Arc<str>> {
        match &self.0 {
            Kind::Whole { ended, .. } => ended.model.clone(),
            _ => None,
        }
    }

    /// Returns whether the body is a stream of events.
    pub fn is_stream(&self) -> bool {
        match &self.0 {
            Kind::Stream(_) | Kind::Events { .. } => true,
            Kind::Audio(audio) => audio.is_events(),
            Kind::Ollama(answer) => answer.is_stream(),
            Kind::Whole { .. } | Kind::Content { .. } => false,
        }
    }

    /// Creates a complete body with this outcome.
    pub(crate) fn ending(bytes: impl Into<Bytes>, ended: Box<Ended>) -> Self {
        Self(Kind::Whole {
            bytes: Some(bytes.into()).filter(|bytes| !bytes.is_empty()),
            ended,
        })
    }

    /// Creates the body of a streamed answer.
    pub(crate) fn stream(events: EventStream) -> Self {
        Self(Kind::Stream(Box::new(events)))
    }

    /// Creates a body of events that are written elsewhere.
    pub(crate) fn events(events: BoxStream<'static, Bytes>) -> Self {
        Self(Kind::Events {
            events,
            goes_on: false,
            ended: None,
        })
    }

    /// Creates a complete body, after which work goes on in the background.
    pub(crate) fn going_on(bytes: impl Into<Bytes>) -> Self {
        let ended = Ended::new(Outcome::Complete).going_on(true);
        Self::ending(bytes, Box::new(ended))
    }

    /// Creates a body of the events of work that goes on in the background, if the client leaves.
    pub(crate) fn events_going_on(events: BoxStream<'static, Bytes>) -> Self {
        Self(Kind::Events {
            events,
            goes_on: true,
            ended: None,
        })
    }

    /// Creates the body of an answer that is passed on as it arrives.
    pub(crate) fn audio(audio: AudioBody) -> Self {
        Self(Kind::Audio(Box::new(audio)))
    }

    /// Creates the body of an answer of Ollama's own API.
    pub(crate) fn ollama(answer: OllamaBody) -> Self {
        Self(Kind::Ollama(Box::new(answer)))
    }

    /// Returns whether the body ended before its announced length. The server then closes the
    /// connection, so that the client notices that the content is incomplete.
    pub fn is_cut_short(&self) -> bool {
        match &self.0 {
            Kind::Audio(audio) => {
                let outcome = audio.ended().map(|ended| ended.outcome);
                !audio.is_events() && outcome == Some(Outcome::Failed)
            }
            Kind::Ollama(answer) => answer.is_cut_short(),
            _ => false,
        }
    }

    /// Creates a body of `length` bytes. If fewer bytes can be read, the body ends early and the
    /// server closes the connection.
    pub(crate) fn content(pieces: Pieces, length: u64) -> Self {
        Self(Kind::Content {
            pieces,
            left: length,
            ended: (length == 0).then(|| Box::new(Ended::new(Outcome::Complete))),
        })
    }

    /// Returns how the answer ended, after the body was read to its end. A body that is dropped
    /// before that was abandoned.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.0 {
            Kind::Whole { bytes: None, ended } => Some(ended),
            Kind::Whole { .. } => None,
            Kind::Stream(events) => events.ended(),
            Kind::Events { ended, .. } | Kind::Content { ended, .. } => ended.as_deref(),
            Kind::Audio(audio) => audio.ended(),
            Kind::Ollama(answer) => answer.ended(),
        }
    }
}

impl Body {
    /// Returns how the answer would have ended if the body were dropped now, for the account of a
    /// client that left.
    pub fn so_far(&self) -> Ended {
        match &self.0 {
            Kind::Whole { ended, bytes: None } => Ended::clone(ended),
            Kind::Whole { ended, .. } => Ended {
                outcome: Outcome::Abandoned,
                ..Ended::clone(ended)
            },
            Kind::Stream(events) => events.so_far(),
            Kind::Events {
                ended: None,
                goes_on,
                ..
            } => Ended::new(Outcome::Abandoned).going_on(*goes_on),
            Kind::Events { ended, .. } | Kind::Content { ended, .. } => match ended {
                Some(ended) => Ended::clone(ended),
                None => Ended::new(Outcome::Abandoned),
            },
            Kind::Audio(audio) => audio.so_far(),
            Kind::Ollama(answer) => answer.so_far(),
        }
    }
}

impl Body {
    /// Ends the stream of an answer that has not ended. Returns the event that reports the error in
    /// the format of the stream, and stops the engine. Returns `None` for other bodies, which go on:
    /// a whole answer, a file, and the events of a background response, which another task ends.
    ///
    /// After a panic in the code of the body, its state may be inconsistent, and this can panic too.
    pub fn end_with(&mut self, error: &ApiError) -> Option<Bytes> {
        match &mut self.0 {
            Kind::Stream(events) if events.ended().is_none() => Some(events.end_with(error)),
            Kind::Audio(audio) if audio.ended().is_none() => Some(audio.end_with(error)),
            Kind::Ollama(answer) if answer.ended().is_none() => Some(answer.end_with(error)),
            _ => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Whole { bytes, .. } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Stream(events) => events
                .poll_bytes(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Audio(audio) => audio
                .poll_bytes(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Ollama(answer) => answer
                .poll_bytes(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Events {
                events,
                ended,
                goes_on,
            } => {
                let next = std::task::ready!(events.as_mut().poll_next(cx));
                if next.is_none() {
                    *ended = Some(Box::new(Ended::new(Outcome::Complete).going_on(*goes_on)));
                }
                Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Content {
                pieces,
                left,
                ended,
            } => {
                if ended.is_some() {
                    return Poll::Ready(None);
                }
                let piece = match std::task::ready!(pieces.as_mut().poll_next(cx)) {
                    Some(Ok(piece)) if piece.len() as u64 <= *left => piece,
                    piece => {
                        if let Some(Err(error)) = piece {
                            tracing::warn!(%error, "the content of a file cannot be read");
                        }
                        *ended = Some(Box::new(Ended::new(Outcome::Failed)));
                        return Poll::Ready(None);
                    }
                };
                *left -= piece.len() as u64;
                if *left == 0 {
                    *ended = Some(Box::new(Ended::new(Outcome::Complete)));
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { bytes, .. } => bytes.is_none(),
            Kind::Stream(events) => events.ended().is_some(),
            // The end of an answer that was cut short is an error, which must be polled.
            Kind::Audio(audio) => audio.ended().is_some() && !self.is_cut_short(),
            Kind::Ollama(answer) => answer.ended().is_some() && !self.is_cut_short(),
            Kind::Events { ended, .. } | Kind::Content { ended, .. } => ended.is_some(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Stream(_) | Kind::Events { .. } | Kind::Ollama(_) => SizeHint::default(),
            Kind::Audio(audio) => audio
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Content { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
