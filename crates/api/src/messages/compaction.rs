//! Compaction: `compaction` requests a summary of the conversation instead of an answer. The answer
//! is a block of the type `compaction`, which takes the conversation's place in later requests.

use loggia_wire::anthropic::{Block, Content, InputMessage, MessagesRequest};
use loggia_wire::openai::{Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::not_among;
use crate::admit::parse::{typed, wrong_at};
use crate::responses::ignored::Ignored;
use crate::responses::summary;

/// The type of the block.
pub(crate) const BLOCK: &str = "compaction";

/// A request for a summary.
#[derive(Clone, Debug)]
pub(crate) struct Compaction {
    /// The message that asks the model for it.
    pub(crate) question: Message,
    /// The changes of the tools in the conversation, which the block contains.
    pub(crate) tool_changes: Vec<Value>,
}

/// Takes `compaction` out of a request, with the fields that only shape an answer. `None` if the
/// request is for an answer.
///
/// # Errors
/// Returns a 400 for an unknown type of compaction.
pub(crate) fn of(
    request: &mut MessagesRequest,
    ignored: &mut Ignored,
) -> Result<Option<Compaction>, ApiError> {
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
    let own = asked.instructions.filter(|text| !text.trim().is_empty());
    Ok(Some(Compaction {
        question: own.map_or_else(summary::question, |text| Message::text(Role::User, text)),
        tool_changes: tool_changes(&request.messages),
    }))
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
fn tool_changes(messages: &[InputMessage]) -> Vec<Value> {
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

/// A summary that stands for all messages and blocks before it.
pub(crate) struct Earlier {
    /// The index of its message, and of its block.
    pub(crate) message: usize,
    block: usize,
    /// The message that gives the model the summary.
    pub(crate) told: Message,
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
                    let told = summary::told(summary);
                    found = Some(Self {
                        message,
                        block,
                        told,
                    });
                }
            }
        }
        found
    }

    /// Removes the blocks that the summary replaces from its message. `None` if nothing is left.
    /// The other blocks keep their places.
    pub(crate) fn rest(&self, mut message: InputMessage) -> Option<InputMessage> {
        if let Some(Content::Blocks(blocks)) = &mut message.content {
            if blocks.len() == self.block + 1 {
                return None;
            }
            blocks[..=self.block].fill(Block::of_text(""));
        }
        Some(message)
    }
}
