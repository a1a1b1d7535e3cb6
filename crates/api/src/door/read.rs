//! Reads the body of a request, within limits.

use std::fmt::Display;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;

use crate::door::content_encoding;
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
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::body_too_large(limit));
    }
    let body = tokio::time::timeout(policy.body_within, whole(body, limit)).await.unwrap_or_else(|_| {
        let seconds = policy.body_within.as_secs();
        let message =
            format!("The body of the request did not arrive within {seconds} s. Send it faster, or send a smaller body.");
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
    })?;
    if codings.is_empty() {
        Ok(body)
    } else {
        content_encoding::unpack(body, codings, limit).await
    }
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
        let broken = |_| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "The body of the request ended early.",
            )
        };
        let Ok(mut piece) = frame.map_err(broken)?.into_data() else {
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
