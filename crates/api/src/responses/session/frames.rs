//! Frames for a client.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::steer::Steer;
use crate::ApiError;

/// An event of a response as a frame: its data, and the lane that it belongs to.
pub(super) fn event(data: Bytes, lane: Option<&str>) -> Bytes {
    let Some(lane) = lane else {
        return data;
    };
    let Some(fields) = data.strip_suffix(b"}") else {
        return data;
    };
    let mut frame = BytesMut::with_capacity(data.len() + lane.len() + 16);
    frame.put_slice(fields);
    // A lane's name has nothing that JSON escapes.
    frame.put_slice(b",\"stream_id\":\"");
    frame.put_slice(lane.as_bytes());
    frame.put_slice(b"\"}");
    frame.freeze()
}

/// An error as a frame.
pub(super) fn error(error: ApiError, lane: Option<&str>) -> Bytes {
    let body = serde_json::to_value(error.error).unwrap_or_default();
    nested(Some(error.status), body, lane)
}

/// The body of an answer that is an error, as a frame.
pub(super) fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    lane: Option<&str>,
) -> Bytes {
    let mut error = error_of(body);
    let mut kept = Map::new();
    for name in [RETRY_AFTER.as_str(), "retry-after-ms", "x-should-retry"] {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        kept.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    if !kept.is_empty() {
        error["headers"] = kept.into();
    }
    nested(Some(status), error, lane)
}

/// The error that ends a stream of the server, as a frame. `None` for other data.
pub(super) fn broken(data: &[u8], lane: Option<&str>) -> Option<Bytes> {
    let error = error_of(data);
    error["message"]
        .is_string()
        .then(|| nested(None, error, lane))
}

fn error_of(body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body {
        Value::Object(mut fields) => fields.remove("error").unwrap_or_default(),
        _ => Value::Null,
    }
}

fn nested(status: Option<StatusCode>, error: Value, lane: Option<&str>) -> Bytes {
    let error = match error {
        error @ Value::Object(_) => error,
        _ => json!({"type": "server_error", "code": null, "param": null,
            "message": "The server had an internal error."}),
    };
    let mut frame = json!({"type": "error"});
    if let Some(status) = status {
        frame["status"] = status.as_u16().into();
    }
    frame["error"] = error;
    framed(frame, lane)
}

/// `response.steer.accepted`, of a response whose events have all come.
pub(super) fn steer_accepted(steer: &Steer, number: u64, lane: Option<&str>) -> Bytes {
    let frame = json!({"type": "response.steer.accepted", "steer": steer.named(),
        "sequence_number": number});
    framed(frame, lane)
}

/// `response.steer.pending`: the client has to answer these calls first.
pub(super) fn steer_pending(
    steer: &Steer,
    required: &[Value],
    number: u64,
    lane: Option<&str>,
) -> Bytes {
    let frame = json!({"type": "response.steer.pending", "steer": steer.named(),
        "reason": "waiting_for_required_input", "required_input": required, "sequence_number": number});
    framed(frame, lane)
}

/// `response.steer.failed`: the input goes back to the client.
pub(super) fn steer_failed(
    id: Option<&str>,
    previous: &str,
    input: &Value,
    (code, message): (&str, &str),
    lane: Option<&str>,
) -> Bytes {
    let mut steer = json!({"previous_response_id": previous, "input": input});
    if let Some(id) = id {
        steer["id"] = id.into();
    }
    let error = json!({"type": "invalid_request_error", "code": code, "message": message});
    framed(
        json!({"type": "response.steer.failed", "error": error, "steer": steer}),
        lane,
    )
}

fn framed(mut frame: Value, lane: Option<&str>) -> Bytes {
    if let Some(lane) = lane {
        frame["stream_id"] = lane.into();
    }
    frame.to_string().into()
}
