//! `truncation: "auto"`: which messages of a conversation may be dropped. Pure.
//!
//! Instructions, system and developer messages and summaries of compacted conversations stay, and
//! so do the newest user message and the newest part. A call is dropped together with its output, and reasoning with what follows it,
//! because both are in one message of the chat.

use std::ops::Range;

use loggia_wire::openai::{Content, Message, Role};

use crate::responses::summary;

/// Returns the parts of a conversation that may be dropped, the oldest first. `places` has the
/// place in the request that each message comes from.
pub(super) fn droppable(messages: &[Message], places: &[String]) -> Vec<Range<usize>> {
    let parts = parts(messages, places);
    let newest_user = parts
        .iter()
        .rposition(|part| messages[part.start].role == Role::User);
    let newest = parts.len().saturating_sub(1);
    let may_go = |(at, part): &(usize, Range<usize>)| {
        let first = &messages[part.start];
        !matches!(first.role, Role::System | Role::Developer)
            && !summary::is_told(first)
            && Some(*at) != newest_user
            && *at != newest
    };
    let parts = parts.into_iter().enumerate().filter(may_go);
    parts.map(|(_, part)| part).collect()
}

/// Removes these ranges from a list with an entry for each message. Returns what was removed,
/// without repetitions.
pub(super) fn drop_messages<T: PartialEq>(list: &mut Vec<T>, dropped: &[Range<usize>]) -> Vec<T> {
    let (mut gone, mut kept) = (Vec::new(), Vec::with_capacity(list.len()));
    for (at, entry) in std::mem::take(list).into_iter().enumerate() {
        if !dropped.iter().any(|part| part.contains(&at)) {
            kept.push(entry);
        } else if gone.last() != Some(&entry) {
            gone.push(entry);
        }
    }
    *list = kept;
    gone
}

/// Splits a conversation into parts that make sense alone: a message, or a message with calls and
/// their results, with the images of the results.
fn parts(messages: &[Message], places: &[String]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let is_image_of_result = message.role == Role::User
            && at > 0
            && messages[at - 1].role == Role::Tool
            && places.get(at) == places.get(at - 1)
            && is_media_only(message);
        let belongs_to_before = message.role == Role::Tool || is_image_of_result;
        match parts.last_mut() {
            Some(part) if belongs_to_before => part.end = at + 1,
            _ => parts.push(at..at + 1),
        }
    }
    parts
}

/// Whether a message has parts, and none of them is text.
fn is_media_only(message: &Message) -> bool {
    let parts = message
        .content
        .as_ref()
        .map(Content::parts)
        .unwrap_or_default();
    !parts.is_empty() && parts.iter().all(|part| part.as_text().is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The places of the messages that may be dropped, part by part.
    fn may_go(messages: &Value) -> Vec<Vec<&'static str>> {
        const PLACES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        let places: Vec<String> = messages
            .iter()
            .enumerate()
            .map(|(at, message)| {
                let its_own = message.name.clone();
                its_own.unwrap_or_else(|| PLACES[at].to_owned())
            })
            .collect();
        let parts = droppable(&messages, &places).into_iter();
        parts.map(|part| PLACES[part].to_vec()).collect()
    }

    #[test]
    fn the_oldest_go_first_and_what_the_model_needs_stays() {
        let talk = json!([
            {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"}, {"role": "developer", "content": "d"},
            {"role": "user", "content": "c"}
        ]);
        assert_eq!(may_go(&talk), [["1"], ["2"]]);
        assert!(may_go(&json!([{"role": "user", "content": "a"}])).is_empty());
        assert!(may_go(&json!([])).is_empty());
    }

    #[test]
    fn a_summary_of_what_came_before_stays() {
        let summary = serde_json::to_value(summary::told("They said hello.")).unwrap();
        let talk = json!([
            summary, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}
        ]);
        assert_eq!(may_go(&talk), [["1"]]);
    }

    #[test]
    fn a_call_goes_with_its_results_and_their_images() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let talk = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "reasoning_content": "r", "tool_calls": [call("1"), call("2")]},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
            {"role": "tool", "tool_call_id": "2", "content": "y"},
            // The image of the result before, at the same place.
            {"role": "user", "name": "3", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
            {"role": "assistant", "tool_calls": [call("3")]},
            {"role": "tool", "tool_call_id": "3", "content": "z"},
        ]);
        // The question is kept, although it is the oldest message; so is the newest call with its
        // result.
        assert_eq!(may_go(&talk), [["1", "2", "3", "4"]]);
    }
}
