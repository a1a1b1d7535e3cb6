//! What stands in a message where it means nothing: fields of another role, and what is said in two ways.

use loggia_wire::openai::{Message, Role};

/// Takes out of a message what only another role has, and names it.
pub(crate) fn drop_from(message: &mut Message) -> impl Iterator<Item = String> + use<> {
    let is = |role| message.role == role;
    let (by_assistant, result) = (is(Role::Assistant), is(Role::Tool));
    let misplaced = [
        ("tool_calls", message.tool_calls.take_if(|_| !by_assistant).is_some()),
        ("function_call", message.function_call.take_if(|_| !by_assistant).is_some()),
        ("refusal", message.refusal.take_if(|_| !by_assistant).is_some()),
        ("reasoning_content", message.reasoning_content.take_if(|_| !by_assistant).is_some()),
        ("reasoning", message.reasoning.take_if(|_| !by_assistant).is_some()),
        ("tool_call_id", message.tool_call_id.take_if(|_| !result).is_some()),
        ("reasoning", outdone_reasoning(message).is_some()),
    ];
    misplaced.into_iter().filter(|(_, was_there)| *was_there).map(|(name, _)| format!("messages[].{name}"))
}

/// Both names of earlier reasoning, and not the same under both: `reasoning_content` wins.
fn outdone_reasoning(message: &mut Message) -> Option<String> {
    let wins = message.reasoning_content.as_deref()?;
    message.reasoning.take_if(|other| other != wins)
}
