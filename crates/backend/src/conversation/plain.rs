//! Simplifies a conversation to the form that a strict chat template requires and OpenAI's API does
//! not.
//!
//! Each [`Change`] is one such rule. The code that renders a template tries them in the order of
//! [`Change::PLAINER`], the mildest first.

use loggia_wire::openai::{Content, Message, Part, PartKind, Role, ToolCall};

use super::Change;
use crate::tool_calls::{Shows, spelled_out};

/// The separator between two merged texts.
const BETWEEN: &str = "\n\n";

/// The user message after an assistant message, for templates that require the user's message last.
const GO_ON: &str = "Continue.";

/// The assistant message between a result and the next user message, for templates that require
/// one.
const NOTED: &str = "OK.";

/// Applies these changes to the messages where they have an effect. `write` writes the calls of one
/// message as text. Returns the messages and the changes that had an effect.
pub fn changed(
    messages: &[Message],
    changes: &[Change],
    write: impl Fn(&[ToolCall]) -> String,
) -> (Vec<Message>, Vec<Change>) {
    let mut messages = messages.to_vec();
    let mut needed = Vec::new();
    // The order matters: later changes handle the results of earlier ones.
    for change in ORDER.into_iter().filter(|change| changes.contains(change)) {
        if let Some(changed) = apply(change, &messages, &write) {
            messages = changed;
            needed.push(change);
        }
    }
    (messages, needed)
}

const ORDER: [Change; 12] = [
    Change::CallsAsText,
    Change::ResultsAsText,
    Change::CallApart,
    Change::CallsSplit,
    Change::EmptyDropped,
    Change::SystemIntoUser,
    Change::SystemMoved,
    Change::SystemAsUser,
    Change::UserFirst,
    Change::UserLast,
    Change::Merged,
    Change::AnswerBetween,
];

fn apply(
    change: Change,
    messages: &[Message],
    write: impl Fn(&[ToolCall]) -> String,
) -> Option<Vec<Message>> {
    match change {
        Change::Arguments => None,
        Change::CallsAsText => calls_as_text(messages, write),
        Change::ResultsAsText => results_as_text(messages),
        Change::CallApart => call_apart(messages),
        Change::CallsSplit => calls_split(messages),
        Change::EmptyDropped => empty_dropped(messages),
        Change::SystemIntoUser => system_into_user(messages),
        Change::SystemMoved => system_moved(messages),
        Change::SystemAsUser => system_as_user(messages),
        Change::UserFirst => user_first(messages),
        Change::UserLast => user_last(messages),
        Change::Merged => merged(messages),
        Change::AnswerBetween => answer_between(messages),
    }
}

/// Returns whether a strict template could refuse the conversation.
pub(crate) fn is_odd(messages: &[Message]) -> bool {
    let all = || messages.iter();
    let next_to = |pair: &[Message]| is_system(&pair[1]) || pair[0].role == pair[1].role;
    let first = all().find(|message| !is_system(message));
    first.is_none_or(|first| first.role != Role::User)
        || all()
            .next_back()
            .is_some_and(|last| last.role == Role::Assistant)
        || all().any(|message| has_calls(message) || message.role == Role::Tool)
        || all().any(|message| message.role == Role::Assistant && !says_something(message))
        || messages.first().is_some_and(is_system)
        || messages.windows(2).any(next_to)
}

fn calls_as_text(
    messages: &[Message],
    write: impl Fn(&[ToolCall]) -> String,
) -> Option<Vec<Message>> {
    let has_any = messages
        .iter()
        .any(|message| has_calls(message) || message.role == Role::Tool);
    has_any.then(|| spelled_out(messages, Shows::default(), write))
}

/// Turns results without an earlier call into user messages. `function` messages may lack one.
fn results_as_text(messages: &[Message]) -> Option<Vec<Message>> {
    let mut asked: Vec<&str> = Vec::new();
    let mut changed = false;
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        asked.extend(
            message
                .tool_calls
                .iter()
                .flatten()
                .map(|call| call.id.as_str()),
        );
        let is_asked = message
            .tool_call_id
            .as_deref()
            .is_some_and(|id| asked.contains(&id));
        if message.role == Role::Tool && !is_asked {
            changed = true;
            out.extend(spelled_out(
                std::slice::from_ref(message),
                Shows {
                    calls: true,
                    results: false,
                },
                |_| String::new(),
            ));
        } else {
            out.push(message.clone());
        }
    }
    changed.then_some(out)
}

/// Moves text beside a call into a separate message.
fn call_apart(messages: &[Message]) -> Option<Vec<Message>> {
    let mut out = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let mut message = message.clone();
        if has_calls(&message) && says_something(&message) {
            out.push(Message {
                tool_calls: None,
                ..message.clone()
            });
            (
                message.content,
                message.refusal,
                message.reasoning,
                message.reasoning_content,
            ) = (None, None, None, None);
        }
        out.push(message);
    }
    (out.len() > messages.len()).then_some(out)
}

/// Splits a message with several calls: each call gets a message, followed by its result.
fn calls_split(messages: &[Message]) -> Option<Vec<Message>> {
    let calls = |message: &Message| message.tool_calls.as_ref().map_or(0, Vec::len);
    if !messages.iter().any(|message| calls(message) > 1) {
        return None;
    }
    let mut out = Vec::with_capacity(messages.len() + 1);
    let mut rest = messages;
    while let Some((message, after)) = rest.split_first() {
        rest = after;
        if calls(message) < 2 {
            out.push(message.clone());
            continue;
        }
        let count = after
            .iter()
            .take_while(|next| next.role == Role::Tool)
            .count();
        let (results, after) = after.split_at(count);
        rest = after;
        let mut results: Vec<&Message> = results.iter().collect();
        for (at, call) in message.tool_calls.iter().flatten().enumerate() {
            let mut of_call = if at == 0 {
                message.clone()
            } else {
                Message::text(Role::Assistant, "")
            };
            of_call.tool_calls = Some(vec![call.clone()]);
            out.push(of_call);
            if let Some(at) = results
                .iter()
                .position(|result| result.tool_call_id.as_deref() == Some(&call.id))
            {
                out.push(results.remove(at).clone());
            }
        }
        out.extend(results.into_iter().cloned());
    }
    Some(out)
}

fn empty_dropped(messages: &[Message]) -> Option<Vec<Message>> {
    let is_empty = |message: &Message| {
        message.role == Role::Assistant && !has_calls(message) && !says_something(message)
    };
    // Keeps an empty message if it is the only one.
    let others = messages.iter().filter(|message| !is_empty(message)).count();
    (others > 0 && others < messages.len()).then(|| {
        messages
            .iter()
            .filter(|message| !is_empty(message))
            .cloned()
            .collect()
    })
}

/// Merges later system messages into the first one, at the beginning.
fn system_moved(messages: &[Message]) -> Option<Vec<Message>> {
    let later = messages.iter().skip(1).any(is_system);
    if !later {
        return None;
    }
    let mut all = messages
        .iter()
        .filter(|message| is_system(message))
        .cloned();
    let first = all.next()?;
    let first = all.fold(first, joined);
    Some(
        [first]
            .into_iter()
            .chain(
                messages
                    .iter()
                    .filter(|message| !is_system(message))
                    .cloned(),
            )
            .collect(),
    )
}

/// Turns system messages into user messages, each merged into the next user message.
fn system_into_user(messages: &[Message]) -> Option<Vec<Message>> {
    if !messages.iter().any(is_system) {
        return None;
    }
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut open = false;
    for message in messages {
        let was_system = is_system(message);
        let mut message = message.clone();
        if was_system {
            message.role = Role::User;
        }
        match out.pop_if(|_| open && message.role == Role::User) {
            Some(instructions) => out.push(joined(instructions, message)),
            None => out.push(message),
        }
        open = was_system;
    }
    Some(out)
}

/// Turns the last system message into a user message if there are only system messages.
fn system_as_user(messages: &[Message]) -> Option<Vec<Message>> {
    if messages.is_empty() || !messages.iter().all(is_system) {
        return None;
    }
    let mut messages = messages.to_vec();
    messages.last_mut()?.role = Role::User;
    Some(messages)
}

/// Inserts an empty user message before the first assistant message.
fn user_first(messages: &[Message]) -> Option<Vec<Message>> {
    let first = messages.iter().position(|message| !is_system(message))?;
    if messages[first].role == Role::User {
        return None;
    }
    let mut messages = messages.to_vec();
    messages.insert(first, Message::text(Role::User, ""));
    Some(messages)
}

/// Appends a user message that asks to continue if the last message is from the assistant.
fn user_last(messages: &[Message]) -> Option<Vec<Message>> {
    let last = messages.last()?;
    if last.role != Role::Assistant && !is_system(last) {
        return None;
    }
    let mut messages = messages.to_vec();
    messages.push(Message::text(Role::User, GO_ON));
    Some(messages)
}

/// Merges consecutive messages of one role. Results stay separate, because each belongs to a call.
fn merged(messages: &[Message]) -> Option<Vec<Message>> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match out.pop_if(|last| are_neighbours(last, message)) {
            Some(last) => out.push(joined(last, message.clone())),
            None => out.push(message.clone()),
        }
    }
    (out.len() < messages.len()).then_some(out)
}

fn are_neighbours(one: &Message, next: &Message) -> bool {
    let may_join = matches!(
        one.role,
        Role::System | Role::Developer | Role::User | Role::Assistant
    );
    may_join && (one.role == next.role || is_system(one) && is_system(next)) && !has_calls(one)
}

/// Inserts an assistant message between a result and the next user message.
fn answer_between(messages: &[Message]) -> Option<Vec<Message>> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        if message.role == Role::User && out.last().is_some_and(|last| last.role == Role::Tool) {
            out.push(Message::text(Role::Assistant, NOTED));
        }
        out.push(message.clone());
    }
    (out.len() > messages.len()).then_some(out)
}

/// Merges two messages of one role. Keeps the fields that the second one has besides its content.
fn joined(first: Message, next: Message) -> Message {
    let content = match (first.content, next.content) {
        (Some(first), Some(next)) => Some(joined_content(first, next)),
        (first, next) => first.or(next),
    };
    let name = first.name.filter(|name| next.name.as_ref() == Some(name));
    let reasoning_content = next.reasoning_content.or(first.reasoning_content);
    let reasoning = next.reasoning.or(first.reasoning);
    let refusal = next.refusal.or(first.refusal);
    Message {
        role: first.role,
        content,
        name,
        refusal,
        reasoning_content,
        reasoning,
        ..next
    }
}

fn joined_content(first: Content, next: Content) -> Content {
    let is_empty = |content: &Content| match content {
        Content::Text(text) => text.is_empty(),
        Content::Parts(parts) => parts.is_empty(),
    };
    match (first, next) {
        (first, next) if is_empty(&next) => first,
        (first, next) if is_empty(&first) => next,
        (Content::Text(first), Content::Text(next)) => Content::Text([first, next].join(BETWEEN)),
        (first, next) => {
            let mut parts = into_parts(first);
            parts.push(PartKind::Text(BETWEEN.to_owned()).into());
            parts.extend(into_parts(next));
            Content::Parts(parts)
        }
    }
}

fn into_parts(content: Content) -> Vec<Part> {
    match content {
        Content::Text(text) => vec![PartKind::Text(text).into()],
        Content::Parts(parts) => parts,
    }
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn has_calls(message: &Message) -> bool {
    message
        .tool_calls
        .as_ref()
        .is_some_and(|calls| !calls.is_empty())
}

fn says_something(message: &Message) -> bool {
    let in_part = |part: &Part| part.as_text().is_none_or(|text| !text.trim().is_empty());
    let refuses = message
        .refusal
        .as_deref()
        .is_some_and(|text| !text.trim().is_empty());
    refuses
        || match &message.content {
            None => false,
            Some(Content::Text(text)) => !text.trim().is_empty(),
            Some(Content::Parts(parts)) => parts.iter().any(in_part),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plainer(change: Change, messages: Value) -> Option<Value> {
        let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
        let write = |calls: &[ToolCall]| {
            calls
                .iter()
                .flat_map(|call| ["<", &call.function.name, ">"])
                .collect()
        };
        let (changed, needed) = changed(&messages, &[change], write);
        (needed == [change]).then(|| json!(changed))
    }

    fn message(role: &str, content: &str) -> Value {
        json!({"role": role, "content": content})
    }

    fn call(id: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": id, "arguments": "{}"}})
    }

    fn calls(ids: &[&str]) -> Value {
        json!({"role": "assistant", "content": "", "tool_calls": ids.iter().map(|id| call(id)).collect::<Vec<_>>()})
    }

    fn result(id: &str) -> Value {
        json!({"role": "tool", "content": id, "tool_call_id": id})
    }

    #[test]
    fn later_instructions_join_the_first_ones() {
        let conversation = json!([
            message("user", "a"),
            message("developer", "S"),
            message("assistant", "b"),
            message("system", "T")
        ]);
        let moved = json!([
            message("developer", "S\n\nT"),
            message("user", "a"),
            message("assistant", "b")
        ]);
        assert_eq!(plainer(Change::SystemMoved, conversation), Some(moved));
        assert_eq!(
            plainer(
                Change::SystemMoved,
                json!([message("system", "S"), message("user", "a")])
            ),
            None
        );
    }

    #[test]
    fn instructions_stand_before_what_the_user_says_next() {
        let conversation = json!([
            message("system", "S"),
            message("system", "T"),
            message("user", "a"),
            message("assistant", "b"),
            message("system", "U"),
            message("assistant", "c"),
            message("system", "V")
        ]);
        let moved = json!([
            message("user", "S\n\nT\n\na"),
            message("assistant", "b"),
            message("user", "U"),
            message("assistant", "c"),
            message("user", "V")
        ]);
        assert_eq!(plainer(Change::SystemIntoUser, conversation), Some(moved));
    }

    #[test]
    fn instructions_that_are_all_there_is_are_what_the_user_asks() {
        let conversation = json!([message("system", "S"), message("system", "T")]);
        assert_eq!(
            plainer(Change::SystemAsUser, conversation),
            Some(json!([message("system", "S"), message("user", "T")]))
        );
        assert_eq!(
            plainer(
                Change::SystemAsUser,
                json!([message("system", "S"), message("assistant", "T")])
            ),
            None
        );
    }

    #[test]
    fn neighbours_of_one_role_are_merged_and_results_are_not() {
        let parts =
            json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]);
        let picture = json!({"role": "user", "content": parts});
        let conversation = json!([
            message("user", "a"),
            message("user", "b"),
            message("assistant", "c"),
            message("assistant", ""),
            calls(&["x", "y"]),
            result("x"),
            result("y"),
            message("user", "d"),
            picture
        ]);
        let mut both = calls(&["x", "y"]);
        both["content"] = json!("c");
        let text = |text: &str| json!({"type": "text", "text": text});
        let merged = json!([message("user", "a\n\nb"), both, result("x"), result("y"),
            {"role": "user", "content": [text("d"), text("\n\n"), parts[0]]}]);
        assert_eq!(plainer(Change::Merged, conversation), Some(merged));
        assert_eq!(
            plainer(
                Change::Merged,
                json!([
                    calls(&["x"]),
                    result("x"),
                    result("x"),
                    message("user", "a")
                ])
            ),
            None
        );
    }

    #[test]
    fn empty_answers_go_and_calls_stay() {
        let conversation = json!([message("user", "a"), message("assistant", " "), {"role": "assistant"}, calls(&["x"]), result("x")]);
        assert_eq!(
            plainer(Change::EmptyDropped, conversation),
            Some(json!([message("user", "a"), calls(&["x"]), result("x")]))
        );
        assert_eq!(
            plainer(Change::EmptyDropped, json!([message("assistant", "")])),
            None
        );
    }

    #[test]
    fn the_user_begins_and_ends() {
        let conversation = json!([message("system", "S"), message("assistant", "a")]);
        let with = |messages: &[Value]| Some(Value::from(messages));
        let empty = message("user", "");
        let (system, answer) = (message("system", "S"), message("assistant", "a"));
        assert_eq!(
            plainer(Change::UserFirst, conversation.clone()),
            with(&[system.clone(), empty.clone(), answer.clone()])
        );
        assert_eq!(
            plainer(Change::UserLast, conversation),
            with(&[system, answer, message("user", "Continue.")])
        );
        assert_eq!(
            plainer(Change::UserLast, json!([calls(&["x"]), result("x")])),
            None
        );
    }

    #[test]
    fn a_text_beside_a_call_stands_before_it() {
        let mut beside = calls(&["x"]);
        beside["content"] = json!("a");
        let mut apart = calls(&["x"]);
        apart.as_object_mut().unwrap().remove("content");
        let expected = json!([message("assistant", "a"), apart, result("x")]);
        assert_eq!(
            plainer(Change::CallApart, json!([beside, result("x")])),
            Some(expected)
        );
        assert_eq!(
            plainer(Change::CallApart, json!([calls(&["x"]), result("x")])),
            None
        );
    }

    #[test]
    fn each_call_is_followed_by_its_result() {
        let conversation = json!([
            calls(&["x", "y"]),
            result("y"),
            result("x"),
            message("user", "a")
        ]);
        let split = json!([
            calls(&["x"]),
            result("x"),
            calls(&["y"]),
            result("y"),
            message("user", "a")
        ]);
        assert_eq!(plainer(Change::CallsSplit, conversation), Some(split));
    }

    #[test]
    fn the_assistant_answers_before_the_user_speaks_again() {
        let conversation = json!([calls(&["x"]), result("x"), message("user", "a")]);
        let answered = json!([
            calls(&["x"]),
            result("x"),
            message("assistant", "OK."),
            message("user", "a")
        ]);
        assert_eq!(plainer(Change::AnswerBetween, conversation), Some(answered));
    }

    #[test]
    fn calls_and_results_become_text() {
        let conversation = json!([message("user", "a"), calls(&["x"]), result("x")]);
        let text = json!([
            message("user", "a"),
            message("assistant", "<x>"),
            message("user", "Result of x:\nx")
        ]);
        assert_eq!(plainer(Change::CallsAsText, conversation), Some(text));
        let orphan = json!([message("user", "a"), result("x")]);
        let text = json!([message("user", "a"), message("user", "Result:\nx")]);
        assert_eq!(plainer(Change::ResultsAsText, orphan), Some(text));
        assert_eq!(
            plainer(Change::ResultsAsText, json!([calls(&["x"]), result("x")])),
            None
        );
    }
}
