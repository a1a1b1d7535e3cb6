//! Handles fields of messages that have no meaning or that no engine would see: fields of other
//! roles, duplicate reasoning, refusals.

use loggia_wire::openai::{Content, Message, PartKind, Role, ToolCall};

/// Removes fields that only other roles have. Returns their names.
pub(crate) fn drop_from(message: &mut Message) -> impl Iterator<Item = String> + use<> {
    let is = |role| message.role == role;
    let (by_assistant, result) = (is(Role::Assistant), is(Role::Tool));
    let misplaced = [
        (
            "tool_calls",
            message.tool_calls.take_if(|_| !by_assistant).is_some(),
        ),
        (
            "function_call",
            message.function_call.take_if(|_| !by_assistant).is_some(),
        ),
        (
            "refusal",
            message.refusal.take_if(|_| !by_assistant).is_some(),
        ),
        (
            "reasoning_content",
            message
                .reasoning_content
                .take_if(|_| !by_assistant)
                .is_some(),
        ),
        (
            "reasoning",
            message.reasoning.take_if(|_| !by_assistant).is_some(),
        ),
        (
            "tool_call_id",
            message.tool_call_id.take_if(|_| !result).is_some(),
        ),
        ("reasoning", remove_overridden_reasoning(message).is_some()),
    ];
    misplaced
        .into_iter()
        .filter(|(_, was_there)| *was_there)
        .map(|(name, _)| format!("messages[].{name}"))
}

/// Removes the weaker of two different values of earlier reasoning: `reasoning_content` takes
/// precedence.
fn remove_overridden_reasoning(message: &mut Message) -> Option<String> {
    let wins = message.reasoning_content.as_deref()?;
    message.reasoning.take_if(|other| other != wins)
}

/// Converts earlier calls of `custom` tools to calls of functions, the only calls that engines and
/// chat templates know.
pub(crate) fn as_functions(message: &mut Message) {
    let calls = message.tool_calls.iter_mut().flatten();
    calls
        .filter(|call| call.is_custom())
        .for_each(ToolCall::as_function);
}

/// Appends a refusal of the assistant to the content, because a template has no other place for it.
pub(crate) fn say_refusal(message: &mut Message) {
    let Some(refusal) = message.refusal.take().filter(|refusal| !refusal.is_empty()) else {
        return;
    };
    message.content = Some(match message.content.take() {
        Some(Content::Text(text)) if !text.is_empty() => Content::Parts(vec![
            PartKind::Text(text).into(),
            PartKind::Refusal(refusal).into(),
        ]),
        Some(Content::Parts(mut parts)) if !parts.is_empty() => {
            parts.push(PartKind::Refusal(refusal).into());
            Content::Parts(parts)
        }
        _ => Content::Text(refusal),
    });
}
