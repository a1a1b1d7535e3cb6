//! Earlier calls and results that a template does not show, written into the contents
//! (`loggia_backend::emulate`).

use loggia_backend::conversation::arguments;
use loggia_backend::tool_calls::{self, Shows};
use loggia_wire::openai::{Message, ToolCall};

use crate::syntax::CallForm;

/// The messages, with what is not shown written into their contents in this form.
pub(super) fn spelled_out(messages: &[Message], shows: Shows, form: CallForm) -> Vec<Message> {
    tool_calls::spelled_out(messages, shows, |calls| written(calls, form))
}

/// The calls of a message in this form.
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
