//! A `multipart/form-data` body that is read piece by piece, with bounded memory.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use multer::{Field, Multipart};
use thiserror::Error;

use crate::ApiError;

/// The maximum number of bytes that may be read without a piece of a field: the head of a field.
const MOST_OF_A_HEAD: usize = 16 << 10;

/// The limits of a form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FormLimits {
    /// The maximum number of bytes of the form's file.
    pub(crate) file: u64,
    /// The maximum number of bytes besides the file: names, boundaries, other fields.
    pub(crate) besides: u64,
    /// The maximum number of bytes of a field that is not a file.
    pub(crate) text: usize,
    /// The maximum number of fields.
    pub(crate) fields: usize,
}

impl FormLimits {
    /// Returns the limits of a form with a few short fields besides its file.
    pub(crate) fn short(file: u64) -> Self {
        Self {
            file,
            besides: 64 << 10,
            text: 4 << 10,
            fields: 32,
        }
    }

    /// Returns the most bytes of the whole form.
    fn whole(&self) -> u64 {
        self.file.saturating_add(self.besides)
    }
}

/// A form, read field by field.
pub(crate) struct Form<'b> {
    multipart: Multipart<'b>,
    /// The bytes that were read since the last piece of a field.
    unread: Arc<AtomicUsize>,
    fields: usize,
    /// The longest pause of the client.
    pause: Duration,
    limits: FormLimits,
}

impl<'b> Form<'b> {
    /// Begins to read a form.
    ///
    /// # Errors
    /// A 415 for another type, a 413 if the head of the request announces too many bytes.
    pub(crate) fn new<B>(
        headers: &HeaderMap,
        body: B,
        limits: FormLimits,
        pause: Duration,
    ) -> Result<Self, ApiError>
    where
        B: Body<Data: Buf, Error: Display> + Send + 'b,
    {
        let kind = headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(kind).map_err(|_| {
            let message = "Unsupported content type; this route accepts a form: set the header 'content-type: multipart/form-data; boundary=…'.";
            ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
        })?;
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limits.whole()) {
            return Err(too_large(limits.file));
        }
        let unread = Arc::new(AtomicUsize::new(0));
        let frames = Frames {
            body: Box::pin(body),
            unread: Arc::clone(&unread),
            left: limits.whole(),
            rests: false,
        };
        Ok(Self {
            multipart: Multipart::new(frames, boundary),
            unread,
            fields: 0,
            pause,
            limits,
        })
    }

    /// Returns the next field.
    pub(crate) async fn next(&mut self) -> Result<Option<Field<'b>>, ApiError> {
        self.fields += 1;
        let most = self.limits.fields;
        if self.fields > most {
            let message = format!("A form may have at most {most} fields.");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        let next = tokio::time::timeout(self.pause, self.multipart.next_field()).await;
        let field = next.map_err(|_| self.too_slow())?;
        self.unread.store(0, Ordering::Relaxed);
        field.map_err(|error| self.refused(&error))
    }

    /// Returns the next piece of a field.
    pub(crate) async fn piece(&self, field: &mut Field<'b>) -> Result<Option<Bytes>, ApiError> {
        let next = tokio::time::timeout(self.pause, field.chunk()).await;
        let piece = next.map_err(|_| self.too_slow())?;
        self.unread.store(0, Ordering::Relaxed);
        piece.map_err(|error| self.refused(&error))
    }

    /// Returns the whole text of a field that is not a file.
    pub(crate) async fn text(&self, mut field: Field<'b>) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece(&mut field).await? {
            text.extend_from_slice(&piece);
            let most = self.limits.text;
            if text.len() > most {
                let name = field.name().unwrap_or_default();
                let message = format!(
                    "Invalid '{name}': string too long. Expected a string with maximum length {most}."
                );
                return Err(ApiError::invalid(name, "string_above_max_length", message));
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn too_slow(&self) -> ApiError {
        let seconds = self.pause.as_secs();
        let message =
            format!("No data of the body arrived for {seconds} s. Send it without long pauses.");
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
    }

    fn refused(&self, error: &multer::Error) -> ApiError {
        let unread = match error {
            multer::Error::StreamReadFailed(cause) => cause.downcast_ref::<Unread>(),
            _ => None,
        };
        let cause: &dyn Display = match unread {
            Some(Unread::TooLarge) => return too_large(self.limits.file),
            Some(unread) => unread,
            None => error,
        };
        let message = format!("We could not parse the form in the body of your request: {cause}.");
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }
}

/// Returns the error for a file above a limit.
pub(crate) fn too_large(limit: u64) -> ApiError {
    let message = format!("The file is too large. This server accepts at most {limit} bytes here.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        .about("file")
        .coded("file_too_large")
}

/// Why a body was not read further.
#[derive(Debug, Error)]
enum Unread {
    #[error("it is too large")]
    TooLarge,
    #[error("the head of a field is too long")]
    LongHead,
    #[error("it ended early")]
    Broken,
}

/// The frames of a body, one at a time. `multer` reads all frames that are ready, so after each
/// frame this reports once that no more is ready.
struct Frames<B> {
    body: Pin<Box<B>>,
    unread: Arc<AtomicUsize>,
    left: u64,
    rests: bool,
}

impl<B> Stream for Frames<B>
where
    B: Body<Data: Buf, Error: Display>,
{
    type Item = Result<Bytes, Unread>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.rests) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.unread.load(Ordering::Relaxed) > MOST_OF_A_HEAD {
            return Poll::Ready(Some(Err(Unread::LongHead)));
        }
        loop {
            let frame = match std::task::ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(Unread::Broken))),
                Some(Ok(frame)) => frame,
            };
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            let bytes = data.copy_to_bytes(data.remaining());
            let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                return Poll::Ready(Some(Err(Unread::TooLarge)));
            };
            self.left = left;
            self.unread.fetch_add(bytes.len(), Ordering::Relaxed);
            self.rests = true;
            return Poll::Ready(Some(Ok(bytes)));
        }
    }
}
