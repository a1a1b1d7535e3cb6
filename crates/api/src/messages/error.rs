//! Errors in Anthropic's format.

use http::StatusCode;
use loggia_wire::anthropic::ErrorResponse;
use serde_json::{Value, json};

use crate::ApiError;

/// The codes of errors about threads, which the SDKs recognize. After the first they send the whole
/// conversation without a thread, after the second in a new one.
pub(crate) const UNSUPPORTED: &str = "thread_unsupported_request";
pub(crate) const NOT_FOUND: &str = "thread_not_found";

/// The code of the error for a prompt that does not fit.
const TOO_LONG: &str = "context_length_exceeded";

/// The status of a server that has no capacity left. HTTP does not define it.
const OVERLOADED: u16 = 529;

/// Returns the status that clients of Anthropic's API expect for this error.
pub(crate) fn status(error: &ApiError) -> StatusCode {
    let is_busy = error.status == StatusCode::SERVICE_UNAVAILABLE;
    match StatusCode::from_u16(OVERLOADED) {
        Ok(overloaded) if is_busy => overloaded,
        _ => error.status,
    }
}

/// Returns the error in Anthropic's format.
pub(crate) fn body(error: &ApiError, request_id: Option<&str>) -> ErrorResponse {
    // Clients look for Anthropic's words at the beginning of this one.
    let is_anthropics = error.error.code.as_deref() == Some(TOO_LONG);
    let message = match &error.error.param {
        // Anthropic's messages begin with the field.
        Some(param) if !is_anthropics && !error.error.message.contains(param.as_str()) => {
            format!("{param}: {}", error.error.message)
        }
        _ => error.error.message.clone(),
    };
    let mut body = ErrorResponse::new(kind(error), message, request_id.map(str::to_owned));
    body.error.details = details(error);
    body
}

/// Returns the `details` that the SDKs read in an error about a thread.
fn details(error: &ApiError) -> Option<Value> {
    let code = error.error.code.as_deref()?;
    match code {
        UNSUPPORTED => Some(json!({"error_code": code, "unsupported": ["thread"]})),
        NOT_FOUND => Some(json!({"error_code": code})),
        _ => None,
    }
}

/// Returns Anthropic's error type.
fn kind(error: &ApiError) -> &'static str {
    match error.status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | OVERLOADED => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::BackendError;

    use super::*;
    use crate::wording::Dialect;

    #[test]
    fn every_status_has_the_type_of_anthropics_api() {
        for (status, seen_as, kind) in [
            (400, 400, "invalid_request_error"),
            (401, 401, "authentication_error"),
            (402, 402, "billing_error"),
            (403, 403, "permission_error"),
            (404, 404, "not_found_error"),
            (405, 405, "invalid_request_error"),
            (408, 408, "invalid_request_error"),
            (413, 413, "request_too_large"),
            (415, 415, "invalid_request_error"),
            (429, 429, "rate_limit_error"),
            (500, 500, "api_error"),
            (502, 502, "api_error"),
            (503, 529, "overloaded_error"),
            (504, 504, "timeout_error"),
        ] {
            let code = StatusCode::from_u16(status).expect("a status");
            let error = ApiError::new(code, "no");
            let answer = body(&error, Some("req_1"));
            assert_eq!(super::status(&error).as_u16(), seen_as);
            assert_eq!(answer.error.kind, kind, "{status}");
            assert_eq!(answer.request_id.as_deref(), Some("req_1"));
        }
    }

    #[test]
    fn the_message_names_the_field_once() {
        let error = |message| ApiError::invalid("max_tokens", "x", message);
        let message = |text| body(&error(text), None).error.message;
        assert_eq!(message("too small"), "max_tokens: too small");
        assert_eq!(
            message("Invalid 'max_tokens': no."),
            "Invalid 'max_tokens': no."
        );
    }

    #[test]
    fn the_error_for_a_prompt_that_does_not_fit_has_anthropics_words_alone() {
        let error = BackendError::ContextLengthExceeded {
            prompt_tokens: Some(9000),
            context: Some(8192),
        };
        let error = ApiError::worded(error, Dialect::Messages);
        assert_eq!(
            body(&error, None).error.message,
            "prompt is too long: 9000 tokens > 8192 maximum"
        );
    }
}
