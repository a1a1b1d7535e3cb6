//! Describes tools in the system message for a model whose template does not support them. The
//! model writes calls between tags.
//!
//! [`marked`](super::marked) parses the calls from an engine's text. The embedded engine has its
//! own parser and grammar for them.

use std::fmt::Write as _;

use loggia_wire::openai::{ChatCompletionRequest, Content, FunctionDefinition, Message, Role};

use crate::conversation::arguments;

/// The tag before a call.
pub(super) const OPEN: &str = "<tool_call>";

/// The tag after a call.
pub(super) const CLOSE: &str = "</tool_call>";

/// Returns a call in the format that the model must use.
pub fn call_as_text(name: &str, arguments: &str) -> String {
    let arguments = arguments::as_object(arguments);
    format!(
        "{OPEN}{{\"name\": {}, \"arguments\": {arguments}}}{CLOSE}",
        serde_json::Value::from(name)
    )
}

/// Returns the messages with the callable functions described in the system message. Without
/// functions, the messages are unchanged.
pub fn with_described_tools(request: &ChatCompletionRequest) -> Vec<Message> {
    let functions = request.callable_functions();
    let mut messages = request.messages.clone();
    if !functions.is_empty() {
        add_to_system(&mut messages, &text(&functions, request));
    }
    messages
}

fn text(functions: &[&FunctionDefinition], request: &ChatCompletionRequest) -> String {
    let may = if request.must_call() {
        "You must now call one of these functions"
    } else {
        "You can call these functions"
    };
    let several = if request.parallel_tool_calls == Some(false) {
        "Call one function at a time."
    } else {
        "Several calls stand one after another."
    };
    let otherwise = if request.must_call() {
        ""
    } else {
        " Where no call is needed, answer as usual."
    };
    format!(
        "{may}:\n{}To call one, write a JSON object of its name and its arguments between tags, and nothing after it: \
         {OPEN}{{\"name\": …, \"arguments\": {{…}}}}{CLOSE}. {several} The next message brings the result.{otherwise}",
        list(functions)
    )
}

/// Adds text to the system message. Many templates do not support a second one.
pub(super) fn add_to_system(messages: &mut Vec<Message>, text: &str) {
    match messages.first_mut() {
        Some(first) if matches!(first.role, Role::System | Role::Developer) => {
            let said = first
                .content
                .as_ref()
                .map(|content| content.joined_text().into_owned())
                .unwrap_or_default();
            first.content = Some(Content::Text(format!("{said}\n\n{text}")));
        }
        _ => messages.insert(0, Message::text(Role::System, text)),
    }
}

/// Returns the functions, one per line.
pub(super) fn list(functions: &[&FunctionDefinition]) -> String {
    let mut text = String::new();
    for function in functions {
        let description = function.description.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "- {}: {description} Arguments, as a JSON schema: {}",
            function.name,
            function.parameters_text()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(fields: &serde_json::Value) -> Vec<(Role, String)> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let messages = with_described_tools(&serde_json::from_value(body).unwrap());
        messages
            .iter()
            .map(|message| {
                (
                    message.role,
                    message.content.as_ref().unwrap().joined_text().into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn the_functions_that_may_be_called_are_told_in_one_system_message() {
        let plain = said(&json!({}));
        assert!(
            plain.len() == 2 && plain[0].0 == Role::System && plain[0].1.contains("- g: "),
            "{plain:?}"
        );
        let with_system = said(
            &json!({"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}),
        );
        assert!(
            with_system.len() == 2 && with_system[0].1.starts_with("Be brief.\n\nYou can call"),
            "{with_system:?}"
        );
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}]}});
        let of_allowed = said(&json!({"tool_choice": allowed}));
        assert!(
            of_allowed[0].1.contains("- f: ") && !of_allowed[0].1.contains("- g: "),
            "{of_allowed:?}"
        );
        assert!(
            said(&json!({"parallel_tool_calls": false}))[0]
                .1
                .contains("one function at a time")
        );
        assert!(
            said(&json!({"tool_choice": "required"}))[0]
                .1
                .contains("must now call")
        );
        assert_eq!(
            said(&json!({"tool_choice": "none"})),
            [(Role::User, "Hi".to_owned())]
        );
    }
}
