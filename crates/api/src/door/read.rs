//! Reads the body of a request, within limits.

use std::fmt::Display;
use std::fs::File;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::door::{content_encoding, temporary_file};
use crate::{ApiError, Policy};

/// Reads the JSON body of a request, as [`json_body`] does. Returns it with the head.
pub(crate) async fn json_request<B>(
    request: Request<B>,
    policy: &Policy,
) -> Result<(Parts, Bytes), ApiError>
where
    B: Body<Data: Buf, Error: Display> + Send,
{
    let (parts, body) = request.into_parts();
    let body = json_body(&parts.headers, body, policy).await?;
    Ok((parts, body))
}

/// Reads and decompresses a JSON body. Returns 415 for another type, 413 above the size limit, 408
/// after the time limit.
pub(crate) async fn json_body<B>(
    headers: &HeaderMap,
    body: B,
    policy: &Policy,
) -> Result<Bytes, ApiError>
where
    B: Body<Data: Buf, Error: Display> + Send,
{
    check_type(headers)?;
    let codings = content_encoding::codings(headers)?;
    let limit = policy.body_limit;
    if length_of(headers).is_some_and(|length| length > limit as u64) {
        return Err(ApiError::body_too_large(limit));
    }
    let body = tokio::time::timeout(policy.body_within, whole(body, limit)).await;
    let body = body.unwrap_or_else(|_| Err(too_slow(policy.body_within)))?;
    if codings.is_empty() {
        Ok(body)
    } else {
        content_encoding::unpack(body, codings, limit).await
    }
}

/// The pieces of a JSON body, for one that is too large to be kept in memory. The client may pause
/// between two pieces for as long as a whole JSON body may take.
pub(crate) struct JsonPieces<B> {
    source: Source<B>,
    limit: u64,
    left: u64,
    pause: Duration,
}

enum Source<B> {
    Body(Pin<Box<B>>),
    /// A body that was compressed.
    Unpacked(mpsc::Receiver<Result<Bytes, ApiError>>),
}

impl<B> JsonPieces<B>
where
    B: Body<Data: Buf, Error: Display> + Send,
{
    /// Begins to read a body of at most `limit` bytes. If it is compressed, it is received in a
    /// temporary file, because decompressing it would make a thread wait for the client.
    ///
    /// # Errors
    /// The errors of [`json_body`].
    pub(crate) async fn new(
        headers: &HeaderMap,
        body: B,
        limit: u64,
        policy: &Policy,
    ) -> Result<Self, ApiError> {
        check_type(headers)?;
        let codings = content_encoding::codings(headers)?;
        if length_of(headers).is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let mut pieces = Self {
            source: Source::Body(Box::pin(body)),
            limit,
            left: limit,
            pause: policy.body_within,
        };
        if !codings.is_empty() {
            let packed = pieces.received().await?;
            let unpacked = content_encoding::unpack_file(packed, codings, limit.saturating_add(1));
            pieces.source = Source::Unpacked(unpacked);
            pieces.left = limit;
        }
        Ok(pieces)
    }

    /// Returns all pieces in a temporary file.
    async fn received(&mut self) -> Result<File, ApiError> {
        let mut file = None;
        let mut buffer = BytesMut::new();
        loop {
            let piece = self.next().await?;
            buffer.extend_from_slice(piece.as_deref().unwrap_or_default());
            if piece.is_some() && buffer.len() < WRITTEN_AT_ONCE {
                continue;
            }
            let bytes = buffer.split().freeze();
            let written = temporary_file::append(file, bytes, "body").await?;
            if piece.is_none() {
                return Ok(written);
            }
            file = Some(written);
        }
    }

    /// Returns the next piece. `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let body = match &mut self.source {
            Source::Unpacked(pieces) => {
                let piece = pieces.recv().await.transpose()?;
                if let Some(piece) = &piece {
                    self.count(piece.len())?;
                }
                return Ok(piece);
            }
            Source::Body(body) => body,
        };
        loop {
            let frame = tokio::time::timeout(self.pause, body.frame()).await;
            let Some(frame) = frame.map_err(|_| too_slow(self.pause))? else {
                return Ok(None);
            };
            let Ok(mut piece) = frame.map_err(|_| broken())?.into_data() else {
                continue;
            };
            let piece = piece.copy_to_bytes(piece.remaining());
            self.count(piece.len())?;
            return Ok(Some(piece));
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), ApiError> {
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.ok_or_else(|| too_large(self.limit))?;
        Ok(())
    }
}

/// The bytes of a compressed body that are written at once.
const WRITTEN_AT_ONCE: usize = 256 << 10;

fn length_of(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn too_large(limit: u64) -> ApiError {
    ApiError::body_too_large(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn too_slow(time: Duration) -> ApiError {
    let seconds = time.as_secs();
    let message = format!(
        "The body of the request did not arrive within {seconds} s. Send it faster, or send a smaller body."
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}

fn broken() -> ApiError {
    let message = "The body of the request ended early.";
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// Reads a complete body. A body that arrives in one piece, as most do, is not copied.
async fn whole<B>(body: B, limit: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data: Buf>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut piece) = frame.map_err(|_| broken())?.into_data() else {
            continue;
        };
        if first.len().max(joined.len()) + piece.remaining() > limit {
            return Err(ApiError::body_too_large(limit));
        }
        if first.is_empty() {
            first = piece.copy_to_bytes(piece.remaining());
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&first);
        }
        joined.put(piece);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Checks the content type. A request without one counts as JSON, as with the original.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported =
        |message: &str| Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = kind
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
    {
        Ok(())
    } else {
        unsupported(
            "Unsupported content type; this API accepts JSON: set the header 'content-type: application/json'.",
        )
    }
}
