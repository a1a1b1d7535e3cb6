//! Compaction: `compaction` requests a summary of the conversation instead of an answer. The answer
//! is a block of the type `compaction`, which takes the conversation's place in later requests.
//! `compact_edit.rs` has the summary that comes before an answer.

use loggia_wire::anthropic::{Block, Content, InputMessage, MessagesRequest};
use loggia_wire::openai::{Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::not_among;
use crate::admit::parse::{typed, wrong_at};
use crate::messages::signature::Signer;
use crate::responses::ignored::Ignored;
use crate::responses::sealed::Sealed;
use crate::responses::summary::{self, Compacted, KeptMessages};

/// The type of the block.
pub(crate) const BLOCK: &str = "compaction";

/// Takes `compaction` out of a request, with the fields that only shape an answer. Returns the
/// message that asks the model for the summary, or `None` if the request is for an answer.
///
/// # Errors
/// Returns a 400 for an unknown type of compaction.
pub(crate) fn question_of(
    request: &mut MessagesRequest,
    ignored: &mut Ignored,
) -> Result<Option<Message>, ApiError> {
    #[derive(Deserialize)]
    struct CompactionField {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        instructions: Option<String>,
    }
    let Some(asked) = request.compaction.take().filter(|asked| !asked.is_null()) else {
        return Ok(None);
    };
    let asked: CompactionField = typed(asked).map_err(|error| wrong_at("compaction", error))?;
    if asked.kind != "summarize" {
        return Err(not_among("compaction.type", &asked.kind, &["summarize"]));
    }
    take_shape(request, ignored);
    Ok(Some(question(asked.instructions)))
}

/// Returns the message that asks the model for a summary, with the client's own instructions if it
/// has any.
pub(crate) fn question(instructions: Option<String>) -> Message {
    let own = instructions.filter(|text| !text.trim().is_empty());
    own.map_or_else(summary::question, |text| Message::text(Role::User, text))
}

/// Removes and lists the fields that have no effect on a summary.
fn take_shape(request: &mut MessagesRequest, ignored: &mut Ignored) {
    let mut name = |is_there: bool, name: &str| {
        if is_there {
            ignored.add(name.to_owned());
        }
    };
    let sequences = request.stop_sequences.take();
    name(
        sequences.is_some_and(|all| !all.is_empty()),
        "stop_sequences",
    );
    let choice = request.tool_choice.take();
    name(
        choice.is_some_and(|choice| matches!(choice.kind.as_str(), "any" | "tool")),
        "tool_choice",
    );
    name(request.output_format.take().is_some(), "output_format");
    let format = request.output_config.as_mut();
    let format = format.and_then(|config| config.format.take());
    name(format.is_some(), "output_config.format");
}

/// Returns the blocks that change the tools, as the block of the answer has them.
pub(crate) fn tool_changes(messages: &[InputMessage]) -> Vec<Value> {
    let blocks = messages
        .iter()
        .filter_map(|message| match &message.content {
            Some(Content::Blocks(blocks)) => Some(blocks),
            _ => None,
        });
    let of_block = |block: &Block| match block.kind.as_str() {
        "tool_addition" | "tool_removal" => vec![json!({"type": block.kind, "tool": block.tool})],
        BLOCK => earlier_changes(block).cloned().collect(),
        _ => Vec::new(),
    };
    blocks.flatten().flat_map(of_block).collect()
}

/// Returns the changes of the tools that a block of an earlier compaction contains.
pub(crate) fn earlier_changes(block: &Block) -> impl Iterator<Item = &Value> {
    let changes = block.extra.get("tool_changes").and_then(Value::as_array);
    changes.into_iter().flatten()
}

/// Returns the summary of a block. `None` if the compaction failed.
pub(crate) fn summary_of(block: &Block) -> Option<&str> {
    let summary = block.content.as_ref().and_then(Value::as_str);
    summary.filter(|_| block.kind == BLOCK)
}

/// A summary that replaces all messages and blocks before it.
pub(crate) struct Earlier {
    /// The index of the message with the summary, and of the block in it.
    pub(crate) message: usize,
    block: usize,
    summary: String,
    /// The sealed data beside the summary.
    sealed: Option<String>,
    follower: Follower,
}

/// The message that follows directly after a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follower {
    Nothing,
    /// The rest of the model's answer.
    Answer,
    /// A message of the user or of the system.
    Message,
}

/// The messages that replace everything before a summary in a conversation.
pub(crate) struct Replacement {
    pub(crate) messages: Vec<Message>,
    /// Whether the server could not open the sealed part beside the summary.
    pub(crate) is_unread: bool,
}

impl Earlier {
    /// Finds the last summary in a conversation.
    pub(crate) fn of(messages: &[InputMessage]) -> Option<Self> {
        let mut found = None;
        for (message, one) in messages.iter().enumerate() {
            let Some(Content::Blocks(blocks)) = &one.content else {
                continue;
            };
            for (block, one) in blocks.iter().enumerate() {
                if let Some(summary) = summary_of(one) {
                    let sealed = one.extra.get("encrypted_content").and_then(Value::as_str);
                    let next = messages.get(message + 1);
                    let follower = match next {
                        _ if block + 1 < blocks.len() => Follower::Answer,
                        None => Follower::Nothing,
                        Some(next) if next.role == "assistant" => Follower::Answer,
                        Some(_) => Follower::Message,
                    };
                    found = Some(Self {
                        message,
                        block,
                        summary: summary.to_owned(),
                        sealed: sealed.map(str::to_owned),
                        follower,
                    });
                }
            }
        }
        found
    }

    /// Removes the blocks that the summary replaces from the message that contains it. `None` if
    /// nothing is left. The other blocks keep their order.
    pub(crate) fn rest(&self, mut message: InputMessage) -> Option<InputMessage> {
        if let Some(Content::Blocks(blocks)) = &mut message.content {
            if blocks.len() == self.block + 1 {
                return None;
            }
            blocks[..=self.block].fill(Block::of_text(""));
        }
        Some(message)
    }

    /// Returns the messages that replace everything before the summary: the summary, and the
    /// messages that the model answers after it. The latter are left out if the client continues
    /// with a message of its own, because the summary is about them too.
    pub(crate) fn replacement(&self, signer: &Signer) -> Replacement {
        let told = summary::told(&self.summary);
        let Some(sealed) = &self.sealed else {
            return Replacement {
                messages: vec![told],
                is_unread: false,
            };
        };
        let keys = signer.keys();
        let opened = Sealed::Compaction.open(keys.as_deref(), sealed, BLOCK);
        let opened: Option<String> = opened.ok().flatten();
        let compacted = opened.and_then(|json| serde_json::from_str::<Compacted>(&json).ok());
        let is_unread = compacted.is_none();
        let kept = compacted.and_then(|compacted| compacted.kept);
        let KeptMessages { before, mut after } = kept.unwrap_or_default();
        match self.follower {
            Follower::Nothing => {}
            // The beginning of the answer that the client gave is left out, because the client adds
            // it itself.
            Follower::Answer => {
                after.pop_if(|last| last.role == Role::Assistant);
            }
            Follower::Message => after.clear(),
        }
        Replacement {
            messages: before.into_iter().chain([told]).chain(after).collect(),
            is_unread,
        }
    }
}
