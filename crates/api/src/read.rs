//! The bytes of a request's body, within limits.

use std::fmt::Display;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::{ApiError, Policy};

/// Reads a JSON body: 415 for another type, 413 past the limit, 408 where it does not come.
pub(crate) async fn json_body<B>(headers: &HeaderMap, body: B, policy: &Policy) -> Result<Bytes, ApiError>
where
    B: Body<Data: Buf, Error: Display> + Send,
{
    check_type(headers)?;
    let limit = policy.body_limit;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let body = std::pin::pin!(Limited::new(body.map_err(|error| error.to_string()), limit));
    match tokio::time::timeout(policy.body_within, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "the body of the request broke off before its end")),
        Err(_) => {
            let seconds = policy.body_within.as_secs();
            let message =
                format!("the body of the request did not come within {seconds} s; send it faster, or a smaller one");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// A request without a type is taken for JSON, as the original did.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |message: &str| Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return unsupported(
            "Unsupported content encoding; send the JSON uncompressed, without a 'content-encoding' header.",
        );
    }
    let Some(kind) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Ok(())
    } else {
        unsupported("Unsupported content type; this API takes JSON: set the header 'content-type: application/json'.")
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body of the request is larger than {limit} bytes, the most this server takes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).coded("request_too_large")
}
