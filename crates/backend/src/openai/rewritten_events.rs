//! Rewrites the events of an engine's answer about audio, one by one.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use loggia_wire::frame::sse;

use crate::http::Body;
use crate::{AudioPiece, BackendError};

/// The maximum size of an event: ten minutes of 24 kHz audio in base64.
const EVENT_LIMIT: usize = 64 << 20;

/// Rewrites the events of an answer.
pub(super) trait Rewrite: Send + 'static {
    /// Returns the pieces for an event.
    fn push(&mut self, data: &Bytes) -> Result<Vec<AudioPiece>, BackendError>;

    /// Returns the last pieces, after the last event.
    fn end(&mut self) -> Result<Vec<AudioPiece>, BackendError>;
}

/// Returns the events of a body, rewritten one by one.
pub(super) fn rewritten(
    backend: &str,
    body: Body,
    rewrite: impl Rewrite,
) -> BoxStream<'static, Result<AudioPiece, BackendError>> {
    let state = Rewritten {
        backend: backend.to_owned(),
        body: Some(body),
        frames: sse::Events::new(EVENT_LIMIT),
        rewrite,
    };
    stream::try_unfold(state, |mut state| async move {
        let next = state.next().await?;
        Ok(next.map(|pieces| (stream::iter(pieces.into_iter().map(Ok)), state)))
    })
    .try_flatten()
    .boxed()
}

/// The events of a body that are being rewritten.
struct Rewritten<R> {
    backend: String,
    /// The engine's body. `None` after its end.
    body: Option<Body>,
    frames: sse::Events,
    rewrite: R,
}

impl<R: Rewrite> Rewritten<R> {
    /// Returns the pieces for the next event, or `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<AudioPiece>>, BackendError> {
        let too_long =
            |backend: &str, error: loggia_wire::frame::LineTooLong| BackendError::BadAnswer {
                backend: backend.to_owned(),
                what: error.to_string(),
            };
        loop {
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let frame = self.frames.next_event();
            if let Some(event) = frame.map_err(|error| too_long(&self.backend, error))? {
                return self.rewrite.push(&event.data).map(Some);
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(data);
                    }
                }
                Some(Err(error)) => return Err(error.into_backend(&self.backend)),
                None => {
                    self.body = None;
                    let last = self.frames.finish();
                    let last = last.map_err(|error| too_long(&self.backend, error))?;
                    let mut pieces = match last {
                        Some(event) => self.rewrite.push(&event.data)?,
                        None => Vec::new(),
                    };
                    pieces.extend(self.rewrite.end()?);
                    return Ok(Some(pieces));
                }
            }
        }
    }
}
