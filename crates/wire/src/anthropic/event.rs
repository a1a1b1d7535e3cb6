//! The events of a streamed answer.

use bytes::BufMut;
use serde::Serialize;

use super::{
    ContentBlock, ContextManagement, Message, SafeguardResult, StopDetails, StopReason, Usage,
};

/// An event of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamEvent<'a> {
    /// The answer begins.
    MessageStart {
        /// The message without content.
        message: &'a Message,
    },
    /// A block begins.
    ContentBlockStart {
        /// The number of the block.
        index: usize,
        /// The block without text.
        content_block: &'a ContentBlock,
    },
    /// Keeps the connection alive. It carries nothing.
    Ping,
    /// A new part of a block.
    ContentBlockDelta {
        /// The number of the block.
        index: usize,
        /// The new part.
        delta: Delta<'a>,
    },
    /// A block ends.
    ContentBlockStop {
        /// The number of the block.
        index: usize,
    },
    /// The answer ends.
    MessageDelta {
        /// Why the answer ended.
        delta: MessageDelta<'a>,
        /// The number of tokens used.
        usage: &'a Usage,
        /// The edits that removed something from the conversation, if the client asked for edits.
        #[serde(skip_serializing_if = "Option::is_none")]
        context_management: Option<&'a ContextManagement>,
    },
    /// The stream ends.
    MessageStop,
}

impl StreamEvent<'_> {
    /// Returns the type of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::Ping => "ping",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

/// The new part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub enum Delta<'a> {
    /// A further piece of text.
    #[serde(rename = "text_delta")]
    Text {
        /// The new part.
        text: &'a str,
    },
    /// More of the input of a tool.
    #[serde(rename = "input_json_delta")]
    InputJson {
        /// The new part.
        partial_json: &'a str,
    },
    /// A further piece of reasoning.
    #[serde(rename = "thinking_delta")]
    Thinking {
        /// The new part.
        thinking: &'a str,
    },
    /// The signature of the reasoning.
    #[serde(rename = "signature_delta")]
    Signature {
        /// The signature.
        signature: &'a str,
    },
    /// The summary of a compaction.
    #[serde(rename = "compaction_delta")]
    Compaction {
        /// The whole summary. `None` if the model wrote none.
        content: Option<&'a str>,
        /// The data that the server needs to continue from the summary, sealed.
        encrypted_content: Option<&'a str>,
    },
}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MessageDelta<'a> {
    /// Why generation stopped.
    pub stop_reason: StopReason,
    /// The stop sequence that ended the answer.
    pub stop_sequence: Option<&'a str>,
    /// Details of a refusal.
    pub stop_details: Option<&'a StopDetails>,
    /// The container of server tools. Always `None`.
    pub container: Option<()>,
    /// The results of `safeguards`, if the client asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safeguard_results: Option<&'a [SafeguardResult]>,
}

/// Writes an event: a line with its name, and a line with its data.
///
/// # Errors
/// Fails if the event cannot be written as JSON; `out` may then contain a part of it.
pub fn write_event(out: &mut Vec<u8>, event: &StreamEvent<'_>) -> serde_json::Result<()> {
    out.put_slice(b"event: ");
    out.put_slice(event.name().as_bytes());
    out.put_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, event)?;
    out.put_slice(b"\n\n");
    Ok(())
}

/// Writes the most frequent event, a text delta. The bytes are the same as those of
/// [`write_event`].
pub fn write_text_delta(out: &mut Vec<u8>, index: usize, text: &str) -> serde_json::Result<()> {
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    serde_json::to_writer(&mut *out, &index)?;
    out.put_slice(b",\"delta\":{\"type\":\"text_delta\",\"text\":");
    serde_json::to_writer(&mut *out, text)?;
    out.put_slice(b"}}\n\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_any_other_event() {
        for text in ["", " the", "\"\\\n\u{1}</é😀"] {
            let (mut short, mut full) = (Vec::new(), Vec::new());
            write_text_delta(&mut short, 3, text).expect("text is JSON");
            let delta = Delta::Text { text };
            let event = StreamEvent::ContentBlockDelta { index: 3, delta };
            write_event(&mut full, &event).expect("text is JSON");
            assert_eq!(String::from_utf8(short), String::from_utf8(full));
        }
    }
}
