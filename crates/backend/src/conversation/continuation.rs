//! Answers that continue the last message of a conversation, instead of following it. The client
//! writes the beginning of the answer itself.
//!
//! The fields are those of vLLM, `SGLang` and llama-server. The embedded engine reads them too.

use loggia_wire::Extra;
use loggia_wire::openai::{Message, Role};
use serde_json::Value;

/// The field that requests a continuation of the last message.
pub const CONTINUE: &str = "continue_final_message";

/// The field that must be `false` beside [`CONTINUE`].
pub const ADD_PROMPT: &str = "add_generation_prompt";

/// Returns the text that an answer can continue: that of the last message, if it is the
/// assistant's, has text and makes no calls.
pub fn beginning(messages: &[Message]) -> Option<String> {
    let last = messages
        .last()
        .filter(|last| last.role == Role::Assistant)?;
    let calls = last.tool_calls.as_ref().is_some_and(|all| !all.is_empty());
    if calls || last.function_call.is_some() {
        return None;
    }
    let text = last.content.as_ref()?.joined_text().into_owned();
    Some(text).filter(|text| !text.trim().is_empty())
}

/// Returns whether a request with these additional fields asks for it.
pub fn is_requested(extra: &Extra) -> bool {
    extra.get(CONTINUE).and_then(Value::as_bool) == Some(true)
}

/// Adds the fields that request a continuation of the last message.
pub fn request(extra: &mut Extra) {
    extra.insert(CONTINUE.to_owned(), Value::Bool(true));
    extra.insert(ADD_PROMPT.to_owned(), Value::Bool(false));
}

#[cfg(test)]
mod tests {
    use loggia_wire::openai::{FunctionCall, ToolCall};

    use super::*;

    #[test]
    fn only_text_of_the_assistant_can_be_continued() {
        let message = |role, text: &str| Message::text(role, text);
        let user = || message(Role::User, "Hi");
        let calling = Message {
            tool_calls: Some(vec![ToolCall {
                id: "a".to_owned(),
                kind: "function".to_owned(),
                function: FunctionCall {
                    name: "f".to_owned(),
                    arguments: "{}".to_owned(),
                    extra: Extra::new(),
                },
                extra: Extra::new(),
            }]),
            ..message(Role::Assistant, "I look")
        };
        for (messages, text) in [
            (vec![user(), message(Role::Assistant, "I am")], Some("I am")),
            (vec![message(Role::Assistant, "I am"), user()], None),
            (vec![user(), message(Role::Assistant, " \n")], None),
            (vec![user(), calling], None),
            (Vec::new(), None),
        ] {
            assert_eq!(beginning(&messages).as_deref(), text, "{messages:?}");
        }
    }
}
