//! Writes earlier calls and their results into the contents of messages, for templates that do not
//! show them (`loggia_backend::tool_calls`).

use loggia_backend::conversation::arguments;
use loggia_backend::tool_calls::{self, Shows};
use loggia_wire::openai::{Message, ToolCall};

use crate::syntax::CallForm;

/// Writes calls and results that the template does not show into the contents of the messages.
/// `form` is the form of a call.
pub(super) fn spelled_out(messages: &[Message], shows: Shows, form: CallForm) -> Vec<Message> {
    tool_calls::spelled_out(messages, shows, |calls| written(calls, form))
}

/// Writes the calls of a message in this form.
pub(super) fn written(calls: &[ToolCall], form: CallForm) -> String {
    let calls: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                &*call.function.name,
                arguments::as_object(&call.function.arguments),
            )
        })
        .collect();
    form.write(calls.iter().map(|(name, arguments)| (*name, &**arguments)))
}
