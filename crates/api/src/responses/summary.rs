//! Compaction: the model summarizes a conversation, and the summary takes the conversation's place
//! in later requests. A client asks for it with an item `compaction_trigger` at the end of the
//! input, or with `POST /v1/responses/compact`; with `context_management`, the server makes it when
//! the conversation is long enough (`auto_compaction.rs`).

use loggia_wire::openai::responses::Item;
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stored::items;

/// The item that asks for a compaction.
pub(crate) const TRIGGER: &str = "compaction_trigger";

/// The maximum number of tokens of a summary, unless the client sets another limit.
pub(crate) const MOST_TOKENS: i64 = 2048;

/// The maximum number of bytes of the user's messages that `POST /v1/responses/compact` seals
/// beside the summary. Older ones are left out.
const MOST_BYTES_KEPT: usize = 32 << 10;

/// The instruction at the end of the prompt.
const ASKED: &str = "Summarize the conversation so far, so that somebody who has not seen it can continue it. \
    Say what the user wants, what was done and decided, which facts, names, paths and values matter (write them exactly \
    as they occurred), and what remains to be done. Write the summary only.";

/// The text before a summary in a later conversation.
const INTRODUCED: &str = "The conversation before this message was replaced by this summary:";

/// The place of a summary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Compaction {
    /// In the output of a response, as its only item.
    Response,
    /// In a compacted conversation, beside these messages of the user.
    Conversation(Vec<Value>),
}

/// The sealed content of a compaction item. The user's messages are in it, not beside it: the types
/// of OpenAI's SDKs have no place for them in a compacted conversation, and their strict clients
/// refuse it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compacted {
    pub(crate) summary: String,
    /// The newest messages of the user, word for word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) messages: Vec<Value>,
    /// The messages that stay beside the summary. If present, the item replaces everything before
    /// it.
    #[serde(default, rename = "rest", skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<KeptMessages>,
}

/// The messages of a conversation that a summary does not replace, as the model reads them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeptMessages {
    /// System messages before the summary.
    pub(crate) before: Vec<Message>,
    /// The messages that the model still had to answer when the summary was made.
    pub(crate) after: Vec<Message>,
}

/// Returns whether the input asks for a compaction.
pub(crate) fn is_asked(items: &[Item]) -> bool {
    items
        .last()
        .is_some_and(|item| item.kind.as_deref() == Some(TRIGGER))
}

/// Returns the message that asks the model for a summary.
pub(crate) fn question() -> Message {
    Message::text(Role::User, ASKED)
}

/// Makes the model write plain text for a summary: no tools, and no response format.
pub(crate) fn only_text(chat: &mut ChatCompletionRequest) {
    chat.tools = None;
    chat.tool_choice = None;
    chat.parallel_tool_calls = None;
    chat.response_format = None;
    let most = chat.max_completion_tokens.unwrap_or(MOST_TOKENS);
    chat.max_completion_tokens = Some(most);
}

/// Returns the message that gives the model a summary.
pub(crate) fn told(summary: &str) -> Message {
    Message::text(Role::User, format!("{INTRODUCED}\n\n{summary}"))
}

/// Returns whether a message tells the model a summary.
pub(crate) fn is_told(message: &Message) -> bool {
    let text = message.content.as_ref().map(Content::joined_text);
    text.is_some_and(|text| text.starts_with(INTRODUCED))
}

/// Returns the newest messages of the user, as items.
pub(crate) fn kept(input: &[Item]) -> Vec<Value> {
    let is_users = |item: &&Item| {
        matches!(item.kind.as_deref(), None | Some("message"))
            && item.role.as_deref() == Some("user")
    };
    let mut bytes = 0;
    let mut kept: Vec<Value> = Vec::new();
    for item in input.iter().rev().filter(is_users) {
        let Ok(item) = items::as_they_come(item) else {
            continue;
        };
        bytes += item.body.len();
        if bytes > MOST_BYTES_KEPT {
            break;
        }
        kept.extend(serde_json::from_str::<Value>(&item.body).ok());
    }
    kept.reverse();
    kept
}
