//! Writes earlier calls and their results as text, for templates that do not support them.
//!
//! Such a template would silently omit them. Calls become text as the model itself has to write
//! them, and a result becomes a user message that names its call.

use std::collections::HashMap;
use std::fmt::Write as _;

use loggia_wire::openai::{Content, Message, Role, ToolCall};

/// Which parts of earlier calls a template shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shows {
    /// Whether the template shows earlier calls.
    pub calls: bool,
    /// Whether the template shows the results of calls.
    pub results: bool,
}

/// Returns whether the messages contain calls or results.
pub fn has_calls(messages: &[Message]) -> bool {
    messages
        .iter()
        .any(|message| message.tool_calls.is_some() || message.role == Role::Tool)
}

/// Returns the messages with the hidden parts as text. `write` writes the calls of one message.
/// Consecutive results become one message, because many templates require user and assistant to
/// alternate.
pub fn spelled_out(
    messages: &[Message],
    shows: Shows,
    write: impl Fn(&[ToolCall]) -> String,
) -> Vec<Message> {
    let all_calls = messages
        .iter()
        .filter_map(|message| message.tool_calls.as_ref())
        .flatten();
    let names: HashMap<&str, &str> = all_calls
        .map(|call| (call.id.as_str(), call.function.name.as_str()))
        .collect();
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for message in messages {
        let is_result = message.role == Role::Tool && !shows.results;
        if is_result {
            let name = message
                .tool_call_id
                .as_deref()
                .and_then(|id| names.get(id).copied());
            let text = result(name.or(message.name.as_deref()), &text(message));
            match out.last_mut().filter(|_| after_result) {
                Some(last) => {
                    last.content = Some(Content::Text(format!("{}\n\n{text}", self::text(last))));
                }
                None => out.push(Message::text(Role::User, text)),
            }
        } else if shows.calls {
            out.push(message.clone());
        } else {
            out.push(with_calls_as_content(message, &write));
        }
        after_result = is_result;
    }
    out
}

fn with_calls_as_content(message: &Message, write: impl Fn(&[ToolCall]) -> String) -> Message {
    let mut message = message.clone();
    if let Some(calls) = message.tool_calls.take().filter(|calls| !calls.is_empty()) {
        let mut text = text(&message);
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&write(&calls));
        message.content = Some(Content::Text(text));
    }
    message
}

fn result(name: Option<&str>, content: &str) -> String {
    let mut text = "Result".to_owned();
    if let Some(name) = name {
        let _ = write!(text, " of {name}");
    }
    let _ = write!(text, ":\n{content}");
    text
}

fn text(message: &Message) -> String {
    message
        .content
        .as_ref()
        .map(|content| content.joined_text().into_owned())
        .unwrap_or_default()
}
