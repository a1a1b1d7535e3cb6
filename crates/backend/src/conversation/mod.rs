//! Conversations that OpenAI's API accepts and not every engine or chat template does, in a form
//! that they take.
//!
//! Reading order: [`Change`] (what was changed, for the answer's header), [`arguments`] (earlier
//! calls whose arguments are no JSON object), [`tools`] (functions without a description, or
//! without parameters), [`plain`] (messages in an order that a template refuses), `retry` (the same
//! for engines that render the template themselves). Pure: values in, values out.

pub mod arguments;
pub mod plain;
pub(crate) mod retry;
pub mod tools;

use std::sync::Arc;

use loggia_wire::openai::ChatCompletionRequest;
use serde::{Deserialize, Serialize};

/// What a backend changed in a conversation so that its engine, or the model's chat template, takes
/// it. `x-loggia-changed` lists the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Arguments of an earlier call that were no JSON object were made one.
    Arguments,
    /// System messages that stand later joined the first one.
    SystemMoved,
    /// Answers of the assistant's without a text and without a call were left out.
    EmptyDropped,
    /// Neighbours of one role became one message.
    Merged,
    /// An empty message of the user's was put before the assistant's first.
    UserFirst,
    /// An answer was put between the result of a call and the user's next message.
    AnswerBetween,
    /// Of nothing but system messages the last became the user's.
    SystemAsUser,
    /// A message of the user's was put at the end, after an answer.
    UserLast,
    /// Results that no call before them asks for became the user's.
    ResultsAsText,
    /// A text that stood beside a call got a message of its own.
    CallApart,
    /// The calls of one message got a message each.
    CallsSplit,
    /// Calls and their results were written into the contents.
    CallsAsText,
    /// System messages became the user's.
    SystemIntoUser,
}

impl Change {
    /// What makes a conversation plainer, the mildest change first.
    pub const PLAINER: [Self; 12] = [
        Self::SystemMoved,
        Self::EmptyDropped,
        Self::Merged,
        Self::UserFirst,
        Self::AnswerBetween,
        Self::SystemAsUser,
        Self::UserLast,
        Self::ResultsAsText,
        Self::CallApart,
        Self::CallsSplit,
        Self::CallsAsText,
        Self::SystemIntoUser,
    ];

    /// The change as the header has it: what was changed, and how. Without commas, which separate
    /// the entries of a header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => {
                "messages[].tool_calls[].function.arguments: completed to a JSON object"
            }
            Self::SystemMoved => "messages: later system messages moved to the first",
            Self::EmptyDropped => "messages: empty answers left out",
            Self::Merged => "messages: neighbours of one role merged",
            Self::UserFirst => "messages: an empty user message put before the first answer",
            Self::AnswerBetween => {
                "messages: an answer put between a result and the next user message"
            }
            Self::SystemAsUser => "messages: the last system message made a user message",
            Self::UserLast => "messages: a user message (Continue.) put at the end",
            Self::ResultsAsText => "messages: results without a call made user messages",
            Self::CallApart => "messages: text beside a call put into a message before it",
            Self::CallsSplit => "messages: calls of one message put into one message each",
            Self::CallsAsText => "messages: calls and results written as text",
            Self::SystemIntoUser => "messages: system messages made user messages",
        }
    }
}

/// Makes a request one that an engine takes which renders the model's own chat template: arguments
/// are objects, and functions have a description and parameters. Copies the request only where
/// there is something to do and somebody else holds it.
pub(crate) fn for_a_template(request: &mut Arc<ChatCompletionRequest>) -> Vec<Change> {
    if let Some(tools) = request.tools.as_deref().and_then(tools::described_all) {
        Arc::make_mut(request).tools = Some(tools);
    }
    arguments::mend_all(request)
}
