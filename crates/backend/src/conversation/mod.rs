//! Adapts conversations that OpenAI's API accepts to the form that an engine or a chat template
//! accepts.
//!
//! Reading order: [`Change`] (a change, for the answer's header), [`arguments`] (earlier calls
//! whose arguments are not a JSON object), [`tools`] (functions without a description or
//! parameters), [`plain`] (messages in an order that a template refuses), `retry` (the same for
//! engines that render the template themselves), [`continuation`] (answers that continue the last
//! message). All functions are pure.

pub mod arguments;
pub mod continuation;
pub mod plain;
pub(crate) mod retry;
pub mod tools;

use std::sync::Arc;

use loggia_wire::openai::ChatCompletionRequest;
use serde::{Deserialize, Serialize};

/// A change to a conversation so that the engine or the model's chat template accepts it. The
/// header `x-loggia-changed` lists the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Arguments of an earlier call became a JSON object.
    Arguments,
    /// Later system messages were merged into the first one.
    SystemMoved,
    /// Assistant messages without text and calls were dropped.
    EmptyDropped,
    /// Consecutive messages of one role were merged.
    Merged,
    /// An empty user message was inserted before the first assistant message.
    UserFirst,
    /// An assistant message was inserted between the result of a call and the next user message.
    AnswerBetween,
    /// The last system message became a user message, because there were only system messages.
    SystemAsUser,
    /// A user message was appended after a final assistant message.
    UserLast,
    /// Results without an earlier call became user messages.
    ResultsAsText,
    /// Text beside a call became a separate message.
    CallApart,
    /// Several calls of one message became one message per call.
    CallsSplit,
    /// Calls and their results became text of the messages.
    CallsAsText,
    /// System messages became user messages.
    SystemIntoUser,
}

impl Change {
    /// The changes that simplify a conversation, from the mildest on.
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

    /// Returns the change as the header shows it. The text has no commas, because they separate the
    /// entries of the header.
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

/// Adapts a request for an engine that renders the model's own chat template: arguments become
/// objects, and functions get a description and parameters. Copies the request only if there is
/// something to do and the request is shared.
pub(crate) fn for_a_template(request: &mut Arc<ChatCompletionRequest>) -> Vec<Change> {
    if let Some(tools) = request.tools.as_deref().and_then(tools::described_all) {
        Arc::make_mut(request).tools = Some(tools);
    }
    arguments::mend_all(request)
}
