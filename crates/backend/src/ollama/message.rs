//! Translates OpenAI's messages to Ollama's, one to one.

use std::collections::HashMap;

use loggia_wire::JsonText;
use loggia_wire::ollama::{ChatMessage, FunctionCall, ToolCall};
use loggia_wire::openai::{self, Content, Message, Part, PartKind, Role};

use crate::BackendError;
use crate::conversation::arguments;
use crate::data_url::{self, DataUrl};

/// Translates a conversation. A message with several parts stays one message.
pub(super) fn chat_messages(messages: &[Message]) -> Result<Vec<ChatMessage>, BackendError> {
    let names = called_names(messages);
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| chat_message(index, message, &names))
        .collect()
}

/// Returns the function names by call id, for the tool messages with the results.
fn called_names(messages: &[Message]) -> HashMap<&str, &str> {
    let calls = messages
        .iter()
        .filter_map(|message| message.tool_calls.as_ref())
        .flatten();
    calls
        .map(|call| (call.id.as_str(), call.function.name.as_str()))
        .collect()
}

fn chat_message(
    index: usize,
    message: &Message,
    names: &HashMap<&str, &str>,
) -> Result<ChatMessage, BackendError> {
    let parts = message
        .content
        .as_ref()
        .map(Content::parts)
        .unwrap_or_default();
    let images = parts
        .iter()
        .enumerate()
        .filter_map(|(part, content)| media(index, part, content).transpose());
    Ok(ChatMessage {
        role: role(message.role),
        content: text(message),
        thinking: message.earlier_reasoning().map(str::to_owned),
        images: images.collect::<Result<_, _>>()?,
        tool_calls: tool_calls(message),
        tool_name: tool_name(message, names),
        tool_call_id: message.tool_call_id.clone(),
    })
}

fn role(role: Role) -> &'static str {
    match role {
        // Ollama accepts any role silently, and templates drop unknown ones.
        Role::Developer => "system",
        // `emulate` has translated the older form to the newer.
        Role::Function => "tool",
        other => other.as_str(),
    }
}

fn text(message: &Message) -> String {
    match (&message.content, &message.refusal) {
        (Some(content), _) => content.joined_text().into_owned(),
        (None, Some(refusal)) => refusal.clone(),
        (None, None) => String::new(),
    }
}

/// Returns the base64 of an image or audio. Ollama takes both in `images`, only in the canonical
/// form.
fn media(message: usize, part: usize, content: &Part) -> Result<Option<String>, BackendError> {
    let place = |field: &str| format!("messages[{message}].content[{part}].{field}");
    match &content.kind {
        PartKind::Text(_) | PartKind::Refusal(_) => Ok(None),
        PartKind::InputAudio { data, .. } => match data_url::base64(data) {
            Some(bytes) => Ok(Some(data_url::canonical(&bytes))),
            None => Err(BackendError::InvalidRequest {
                message: "the audio is not valid base64 (with the standard alphabet)".to_owned(),
                param: Some(place("input_audio.data")),
                code: Some("invalid_input_audio".to_owned()),
            }),
        },
        PartKind::ImageUrl { url, .. } => match DataUrl::read(url) {
            Some(image) => Ok(Some(data_url::canonical(&image.bytes))),
            None => Err(invalid(
                place("image_url.url"),
                "images must be sent as data: URLs in base64 (data:image/png;base64,…)",
            )),
        },
        PartKind::File(_) => Err(invalid(
            format!("messages[{message}].content[{part}]"),
            "this model does not accept files",
        )),
    }
}

fn tool_calls(message: &Message) -> Vec<ToolCall> {
    let calls = message.tool_calls.iter().flatten();
    calls
        .zip(0..)
        .map(|(call, index)| tool_call(index, call))
        .collect()
}

/// Translates a call. Ollama's arguments are an object, OpenAI's a string of JSON.
fn tool_call(index: u32, call: &openai::ToolCall) -> ToolCall {
    let arguments = JsonText(arguments::as_object(&call.function.arguments).into_owned());
    ToolCall {
        id: call.id.clone(),
        function: FunctionCall {
            index,
            name: call.function.name.clone(),
            arguments,
        },
    }
}

/// Returns the name of the called function, or the message's own name if the call is missing.
fn tool_name(message: &Message, names: &HashMap<&str, &str>) -> Option<String> {
    if message.role != Role::Tool {
        return None;
    }
    let called = message
        .tool_call_id
        .as_deref()
        .and_then(|id| names.get(id).copied());
    called.or(message.name.as_deref()).map(str::to_owned)
}

fn invalid(param: String, message: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: message.to_owned(),
        param: Some(param),
        code: None,
    }
}
