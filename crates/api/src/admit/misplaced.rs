//! What stands in a message where it means nothing, or where no engine would see it: fields of
//! another role, what is said in two ways, a refusal.

use loggia_wire::openai::{Content, Message, Part, PartKind, Role, ToolCall};

/// Takes out of a message what only another role has, and names it.
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
        ("reasoning", outdone_reasoning(message).is_some()),
    ];
    misplaced
        .into_iter()
        .filter(|(_, was_there)| *was_there)
        .map(|(name, _)| format!("messages[].{name}"))
}

/// Both names of earlier reasoning, and not the same under both: `reasoning_content` wins.
fn outdone_reasoning(message: &mut Message) -> Option<String> {
    let wins = message.reasoning_content.as_deref()?;
    message.reasoning.take_if(|other| other != wins)
}

/// Makes earlier calls of `custom` tools calls of functions: neither engines nor chat templates
/// know any other.
pub(crate) fn as_functions(message: &mut Message) {
    let calls = message.tool_calls.iter_mut().flatten();
    calls
        .filter(|call| call.is_custom())
        .for_each(ToolCall::as_function);
}

/// Puts what the assistant refused into its content, of which it is the end: a template has no
/// other place for it.
pub(crate) fn say_refusal(message: &mut Message) {
    let Some(refusal) = message.refusal.take().filter(|refusal| !refusal.is_empty()) else {
        return;
    };
    let part = |kind| Part {
        kind,
        extra: loggia_wire::Extra::new(),
    };
    message.content = Some(match message.content.take() {
        Some(Content::Text(text)) if !text.is_empty() => Content::Parts(vec![
            part(PartKind::Text(text)),
            part(PartKind::Refusal(refusal)),
        ]),
        Some(Content::Parts(mut parts)) if !parts.is_empty() => {
            parts.push(part(PartKind::Refusal(refusal)));
            Content::Parts(parts)
        }
        _ => Content::Text(refusal),
    });
}
