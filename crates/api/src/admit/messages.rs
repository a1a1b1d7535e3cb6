//! Checks the order of messages and their required fields, as OpenAI's API does.
//!
//! The backend checks whether a model's template can render them.

use std::collections::BTreeSet;
use std::fmt::Display;

use loggia_backend::conversation::arguments;
use loggia_wire::openai::{FunctionCall, Message, Role};

use crate::ApiError;
use crate::admit::checks::missing;

/// Checks that every message has the fields that its role requires, and that calls are directly
/// followed by their results, one each.
pub(crate) fn check(messages: &[Message]) -> Result<(), ApiError> {
    let mut unanswered = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        check_message(index, message)?;
        if message.role == Role::Tool {
            check_result(index, message, &mut unanswered)?;
            continue;
        }
        all_answered(index, &unanswered)?;
        if message.role == Role::Assistant {
            unanswered = message
                .tool_calls
                .iter()
                .flatten()
                .map(|call| call.id.as_str())
                .collect();
        }
    }
    all_answered(messages.len(), &unanswered)
}

fn check_message(index: usize, message: &Message) -> Result<(), ApiError> {
    let missing = |field: &str| Err(missing(format!("messages[{index}].{field}")));
    let calls = message.tool_calls.iter().flatten();
    if let Some((at, call)) = calls
        .enumerate()
        .find(|(_, call)| call.kind != "function" && !call.is_custom())
    {
        let param = format!("messages[{index}].tool_calls[{at}].type");
        let text = format!(
            "Invalid value: '{}'. Supported values are: 'function', 'custom'.",
            call.kind
        );
        return Err(ApiError::invalid(param, "invalid_value", text));
    }
    match message.role {
        Role::Function if message.name.as_deref().is_none_or(str::is_empty) => missing("name"),
        // An assistant message may contain only calls or a refusal. The result of a function may be
        // empty.
        Role::Assistant | Role::Function => Ok(()),
        Role::Tool if message.tool_call_id.is_none() => missing("tool_call_id"),
        _ if message.content.is_none() => missing("content"),
        _ => Ok(()),
    }
}

fn check_result<'a>(
    index: usize,
    message: &'a Message,
    unanswered: &mut BTreeSet<&'a str>,
) -> Result<(), ApiError> {
    if message
        .tool_call_id
        .as_deref()
        .is_some_and(|id| unanswered.remove(id))
    {
        return Ok(());
    }
    let text =
        "messages with role 'tool' must be a response to a preceding message with 'tool_calls'";
    Err(ApiError::invalid(
        format!("messages[{index}].role"),
        "invalid_value",
        format!("Invalid parameter: {text}."),
    ))
}

/// Checks that all calls have results. `next` is the index of the message where a result is
/// missing.
fn all_answered(next: usize, unanswered: &BTreeSet<&str>) -> Result<(), ApiError> {
    let Some(first) = unanswered.first() else {
        return Ok(());
    };
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         No message before messages[{next}] responds to '{first}'."
    );
    Err(ApiError::invalid("messages", "invalid_value", message))
}

/// Checks that the arguments of earlier calls are JSON objects or empty. For `--strict` and engines
/// that accept only objects.
pub(crate) fn check_arguments(messages: &[Message]) -> Result<(), ApiError> {
    let by_assistant = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.role == Role::Assistant);
    for (index, message) in by_assistant {
        for (at, call) in message.tool_calls.iter().flatten().enumerate() {
            check_object(
                &call.function,
                format_args!("messages[{index}].tool_calls[{at}].function"),
            )?;
        }
        if let Some(call) = &message.function_call {
            check_object(call, format_args!("messages[{index}].function_call"))?;
        }
    }
    Ok(())
}

fn check_object(call: &FunctionCall, place: impl Display) -> Result<(), ApiError> {
    if !arguments::are_changed(&call.arguments) {
        return Ok(());
    }
    let param = format!("{place}.arguments");
    let message =
        format!("Invalid '{param}': the arguments of a call must be a JSON object, as a string.");
    Err(ApiError::invalid(param, "invalid_value", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(messages: Value) -> Option<String> {
        let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
        check(&messages).err().and_then(|error| error.error.param)
    }

    #[test]
    fn results_stand_right_after_their_calls_one_each() {
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let calls =
            json!({"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "x"});
        let user = json!({"role": "user", "content": "x"});

        assert_eq!(
            refused(json!([user, calls, result("b"), result("a"), user])),
            None
        );
        assert_eq!(
            refused(json!([user, result("a")])).as_deref(),
            Some("messages[1].role")
        );
        assert_eq!(
            refused(json!([calls, result("a"), result("a")])).as_deref(),
            Some("messages[2].role")
        );
        assert_eq!(
            refused(json!([calls, result("a"), user])).as_deref(),
            Some("messages")
        );
        assert_eq!(
            refused(json!([calls, result("a")])).as_deref(),
            Some("messages")
        );
    }

    #[test]
    fn a_message_has_what_its_role_needs() {
        assert_eq!(
            refused(json!([{"role": "user"}])).as_deref(),
            Some("messages[0].content")
        );
        assert_eq!(
            refused(json!([{"role": "system", "content": null}])).as_deref(),
            Some("messages[0].content")
        );
        assert_eq!(
            refused(json!([{"role": "tool", "content": "x"}])).as_deref(),
            Some("messages[0].tool_call_id")
        );
        assert_eq!(
            refused(json!([{"role": "function", "content": "x"}])).as_deref(),
            Some("messages[0].name")
        );
        assert_eq!(
            refused(json!([{"role": "function", "name": "", "content": "x"}])).as_deref(),
            Some("messages[0].name")
        );
        assert_eq!(
            refused(json!([{"role": "assistant", "content": null}])),
            None
        );
    }
}
