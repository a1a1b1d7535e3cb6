//! What the server itself refuses, in OpenAI's error shape. What the API refuses is `loggia-api`.

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use loggia_wire::openai::{ErrorBody, ErrorObject};

/// `{"error": {…}}` with this status; `type` follows from the status.
pub(crate) fn refusal(status: StatusCode, code: Option<&str>, message: String) -> Response<Body> {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let error = ErrorObject { message, kind: kind.to_owned(), param: None, code: code.map(str::to_owned) };
    json(status, serde_json::to_vec(&ErrorBody { error }).unwrap_or_default())
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A route of the server's own, asked with a method it does not have. The header `allow` is axum's doing.
pub(crate) async fn method_not_allowed(request: axum::extract::Request) -> Response<Body> {
    let message = format!("Not allowed to {} on {}; use GET.", request.method(), request.uri().path());
    refusal(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported"), message)
}
