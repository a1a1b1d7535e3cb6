//! Earlier calls and their results, for templates that have no place for them.
//!
//! What a template would leave out without a word is written into the contents that it does show: calls as the model itself has to
//! write them, a result as a message of the user's that says whose it is.

use std::collections::HashMap;
use std::fmt::Write as _;

use loggia_wire::openai::{Content, FunctionCall, Message, Role, ToolCall};

use crate::syntax::CallForm;

/// What a template shows of earlier calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shows {
    pub(super) calls: bool,
    pub(super) results: bool,
}

/// Words that no template has.
const ASKED: &str = "<asked>";
const CALLED: &str = "trial_of_a_call";
const ARGUMENT: &str = "trial_of_an_argument";
const RESULT: &str = "<trial of a result>";
/// Letters, as Mistral's templates want them.
const ID: &str = "trialcall";
/// A role that no template knows.
const NOBODY: &str = "nobody_at_all";

impl Shows {
    /// Tries a template out. `render` is given messages and the role that results have, and says none where it fails.
    pub(super) fn of(form: CallForm, render: impl Fn(&[Message], &str) -> Option<String>) -> Self {
        let conversation = [Message::text(Role::User, ASKED), called(), answered()];
        if render(&conversation[..1], "tool").is_none() {
            // It works for nobody, and may take its time over it.
            return Self { calls: true, results: true };
        }
        let shows_call = |messages: &[Message]| {
            render(messages, "tool").is_some_and(|prompt| prompt.contains(CALLED) || prompt.contains(ARGUMENT))
        };
        // Some templates fail at results, and some at calls without any.
        let calls = shows_call(&conversation) || shows_call(&conversation[..2]);
        let without = Shows { calls, results: true };
        let conversation = spelled_out(&conversation, without, form);
        let prompt = render(&conversation, "tool").filter(|prompt| prompt.contains(RESULT));
        let results = prompt.is_some_and(|prompt| {
            // A template that only writes out the role's name knows nothing of results, unless it does of calls.
            calls || render(&conversation, NOBODY).is_none_or(|other| other.replace(NOBODY, "tool") != prompt)
        });
        Shows { calls, results }
    }
}

fn called() -> Message {
    let function = FunctionCall {
        name: CALLED.to_owned(),
        arguments: format!("{{\"of\": \"{ARGUMENT}\"}}"),
        extra: loggia_wire::Extra::new(),
    };
    let call = ToolCall { id: ID.to_owned(), kind: "function".to_owned(), function, extra: loggia_wire::Extra::new() };
    Message { content: None, tool_calls: Some(vec![call]), ..Message::text(Role::Assistant, "") }
}

fn answered() -> Message {
    Message { tool_call_id: Some(ID.to_owned()), ..Message::text(Role::Tool, RESULT) }
}

/// Whether there is anything that a template may not show.
pub(super) fn concerns(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.tool_calls.is_some() || message.role == Role::Tool)
}

/// The messages, with what is not shown written into their contents. Results in a row become one message: many templates want the
/// user and the assistant by turns.
pub(super) fn spelled_out(messages: &[Message], shows: Shows, form: CallForm) -> Vec<Message> {
    let all_calls = messages.iter().filter_map(|message| message.tool_calls.as_ref()).flatten();
    let names: HashMap<&str, &str> = all_calls.map(|call| (call.id.as_str(), call.function.name.as_str())).collect();
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for message in messages {
        let is_result = message.role == Role::Tool && !shows.results;
        if is_result {
            let name = message.tool_call_id.as_deref().and_then(|id| names.get(id).copied());
            let text = result(name.or(message.name.as_deref()), &text(message));
            match out.last_mut().filter(|_| after_result) {
                Some(last) => last.content = Some(Content::Text(format!("{}\n\n{text}", self::text(last)))),
                None => out.push(Message::text(Role::User, text)),
            }
        } else if shows.calls {
            out.push(message.clone());
        } else {
            out.push(with_calls_as_content(message, form));
        }
        after_result = is_result;
    }
    out
}

fn with_calls_as_content(message: &Message, form: CallForm) -> Message {
    let mut message = message.clone();
    if let Some(calls) = message.tool_calls.take().filter(|calls| !calls.is_empty()) {
        let calls = calls.iter().map(|call| (call.function.name.as_str(), call.function.arguments.as_str()));
        let mut text = text(&message);
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&form.write(calls));
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
    message.content.as_ref().map(|content| content.joined_text().into_owned()).unwrap_or_default()
}
