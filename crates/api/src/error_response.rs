//! Writes an [`ApiError`] as an HTTP response, in the form of OpenAI's or Anthropic's API.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::error::{ACCEPTED_CODINGS, ApiError, BUSY_RETRY_AFTER, listed};
use crate::{Body, messages};

impl ApiError {
    /// Returns the status and the body of the error in Anthropic's API.
    pub(crate) fn anthropic(&self, request_id: Option<&str>) -> (StatusCode, Body) {
        // Cannot fail: strings are always valid JSON.
        let body = serde_json::to_vec(&messages::error::body(self, request_id));
        let body = Body::failed(Bytes::from(body.unwrap_or_default()), self);
        (messages::error::status(self), body)
    }

    /// Returns the error as an HTTP response.
    pub fn response(&self) -> Response<Body> {
        // Cannot fail: four strings are always valid JSON.
        let body = serde_json::to_vec(&self.body())
            .map(Bytes::from)
            .unwrap_or_default();
        let mut response = Response::new(Body::failed(body, self));
        *response.status_mut() = self.status;
        // For clients of another API, the door encodes this error again.
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(again) = self.should_retry {
            let again = HeaderValue::from_static(if again { "true" } else { "false" });
            headers.insert(HeaderName::from_static("x-should-retry"), again);
        }
        if let Some(after) = self.retry_after {
            // OpenAI's packages treat 0 as absent.
            let after = if after.as_millis() == 0 {
                BUSY_RETRY_AFTER
            } else {
                after
            };
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(
                HeaderName::from_static("retry-after-ms"),
                HeaderValue::from(millis),
            );
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_CODINGS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // HTTP requires the header with a 401.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // HTTP requires this header: the protocol to use.
            headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        }
        if !self.allow.is_empty()
            && let Ok(allow) = HeaderValue::from_str(&listed(&self.allow, ", "))
        {
            headers.insert(ALLOW, allow);
        }
        response
    }
}
