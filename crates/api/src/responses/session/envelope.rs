//! Frames of a client: the fields that the session itself reads. The door reads the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::admit::checks::missing;
use crate::admit::parse::tracked;

/// The longest name of a lane.
const LONGEST_LANE: usize = 256;

/// The fields that a response does not take over from the one that it continues.
const ITS_OWN: [&str; 6] = [
    "type",
    "stream_id",
    "input",
    "previous_response_id",
    "generate",
    "conversation",
];

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A frame of a client.
pub(super) enum ClientFrame {
    Create(CreateFrame),
    Steer(SteerFrame),
}

/// `response.create`.
#[derive(Clone, Debug)]
pub(super) struct CreateFrame {
    pub(super) frame: Bytes,
    pub(super) lane: Option<Arc<str>>,
    pub(super) previous: Option<String>,
    /// Whether the response can be steered.
    pub(super) can_be_steered: bool,
    /// The settings that a response takes over that continues this one: JSON.
    pub(super) settings: Arc<str>,
}

/// `response.steer`.
#[derive(Clone, Debug)]
pub(super) struct SteerFrame {
    pub(super) previous: String,
    /// The input as the client sent it.
    pub(super) input: Value,
    /// The messages of the input, or the error in it.
    pub(super) messages: Result<Vec<Value>, String>,
}

/// An error about a frame, and the lane that it is about.
pub(super) type FrameError = (Option<Arc<str>>, ApiError);

/// Reads a frame.
pub(super) fn read(frame: Bytes) -> Result<ClientFrame, FrameError> {
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(&frame) else {
        // Keeping track of the place costs time: only where something is wrong.
        let error = tracked::<Map<String, Value>>(&frame).err();
        return Err((None, error.unwrap_or_else(not_an_object)));
    };
    match text(&fields, "type").as_deref() {
        Some("response.steer") => Ok(ClientFrame::Steer(steer(&fields))),
        Some("response.create") => {
            let lane = lane(&fields).map_err(|error| (None, error))?;
            let is_there = |name| fields.get(name).is_some_and(|value| value.get() != "null");
            // A conversation is locked while its response is made, and a warm-up has no answer that
            // could be steered.
            let can_be_steered = !is_there("conversation")
                && !is_there("context_management")
                && fields
                    .get("generate")
                    .is_none_or(|value| value.get() != "false");
            Ok(ClientFrame::Create(CreateFrame {
                previous: text(&fields, "previous_response_id"),
                settings: settings(&fields),
                lane,
                can_be_steered,
                frame,
            }))
        }
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'response.create' and 'response.steer'."
            );
            let lane = lane(&fields).unwrap_or_default();
            Err((lane, ApiError::invalid("type", "invalid_value", message)))
        }
        None => {
            let lane = lane(&fields).unwrap_or_default();
            Err((lane, missing("type".to_owned())))
        }
    }
}

fn not_an_object() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "A frame must be one JSON object.")
}

fn text(fields: &Fields<'_>, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// The lane that a frame names.
fn lane(fields: &Fields<'_>) -> Result<Option<Arc<str>>, ApiError> {
    let Some(value) = fields
        .get("stream_id")
        .filter(|value| value.get() != "null")
    else {
        return Ok(None);
    };
    let name: Option<String> = serde_json::from_str(value.get()).ok();
    let is_name = |name: &String| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        (1..=LONGEST_LANE).contains(&name.len()) && name.bytes().all(is_plain)
    };
    let Some(name) = name.filter(is_name) else {
        let message = format!(
            "Invalid 'stream_id': expected 1 to {LONGEST_LANE} ASCII letters, digits, '_', '-' and '.'."
        );
        return Err(ApiError::invalid("stream_id", "invalid_stream_id", message));
    };
    Ok(Some(name.into()))
}

fn settings(fields: &Fields<'_>) -> Arc<str> {
    let settings = fields.iter();
    let settings = settings.filter(|(name, _)| !ITS_OWN.contains(&name.as_str()));
    let settings: BTreeMap<_, _> = settings.collect();
    // The value is made of JSON, so this cannot fail.
    serde_json::to_string(&settings).unwrap_or_default().into()
}

fn steer(fields: &Fields<'_>) -> SteerFrame {
    let input = fields.get("input");
    let input = input.and_then(|input| serde_json::from_str(input.get()).ok());
    let input = input.unwrap_or_else(|| json!(""));
    let known = ["type", "previous_response_id", "input"];
    let unknown = fields.keys().find(|name| !known.contains(&name.as_str()));
    let previous = text(fields, "previous_response_id");
    let messages = match (unknown, &previous) {
        (Some(name), _) => Err(format!("Unknown parameter: '{name}'.")),
        (_, None) => Err("Missing required parameter: 'previous_response_id'.".to_owned()),
        _ => messages(&input),
    };
    SteerFrame {
        previous: previous.unwrap_or_default(),
        input,
        messages,
    }
}

/// The messages of an input that steers: those of the user, with texts, images and files.
fn messages(input: &Value) -> Result<Vec<Value>, String> {
    match input {
        Value::String(text) if !text.is_empty() => Ok(vec![user(text)]),
        Value::Array(items) if !items.is_empty() => {
            let wrong = items.iter().position(|item| !is_message(item));
            wrong.map_or_else(
                || Ok(items.clone()),
                |index| Err(format!("Invalid 'input[{index}]': expected a message of the user with text, images and files.")),
            )
        }
        _ => Err("Invalid 'input': expected a text or messages, and not an empty one.".to_owned()),
    }
}

fn is_message(item: &Value) -> bool {
    let Value::Object(fields) = item else {
        return false;
    };
    let known = ["type", "role", "content"];
    let part = |part: &Value| {
        let kind = part["type"].as_str().unwrap_or_default();
        ["input_text", "input_image", "input_file"].contains(&kind)
    };
    let has_content = match &item["content"] {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty() && parts.iter().all(part),
        _ => false,
    };
    fields.keys().all(|name| known.contains(&name.as_str()))
        && fields.get("type").is_none_or(|kind| kind == "message")
        && item["role"] == "user"
        && has_content
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": text})
}

impl CreateFrame {
    /// Returns the request for the response that continues this one with the messages that steered
    /// it.
    pub(super) fn successor(
        settings: Arc<str>,
        lane: Option<Arc<str>>,
        previous: &str,
        messages: Vec<Value>,
    ) -> Self {
        let mut fields: Map<String, Value> = serde_json::from_str(&settings).unwrap_or_default();
        fields.insert("previous_response_id".to_owned(), previous.into());
        fields.insert("input".to_owned(), messages.into());
        Self {
            frame: Value::Object(fields).to_string().into(),
            settings,
            lane,
            previous: Some(previous.to_owned()),
            can_be_steered: true,
        }
    }

    /// Returns the same request, with messages before its own input.
    pub(super) fn after(mut self, mut messages: Vec<Value>) -> Self {
        let fields = serde_json::from_slice::<Map<String, Value>>(&self.frame);
        if let Ok(mut fields) = fields {
            match fields.remove("input") {
                Some(Value::String(text)) => messages.push(user(&text)),
                Some(Value::Array(items)) => messages.extend(items),
                _ => {}
            }
            fields.insert("input".to_owned(), messages.into());
            self.frame = Value::Object(fields).to_string().into();
        }
        self
    }
}
