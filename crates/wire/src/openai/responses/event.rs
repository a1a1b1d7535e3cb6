//! The events of a streamed response.

use bytes::BufMut;
use serde::Serialize;
use serde_json::Value;

use super::{OutputItem, OutputPart, Response, SummaryPart};
use crate::openai::TokenLogprob;

macro_rules! events {
    ($( $(#[$meta:meta])* $variant:ident = $name:literal { $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)? } ),* $(,)?) => {
        /// An event of a streamed response, without its `sequence_number`.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum ResponseEvent<'a> {
            $( $(#[$meta])* #[serde(rename = $name)] $variant { $( $(#[$field_meta])* $field: $type ),* }, )*
        }

        impl ResponseEvent<'_> {
            /// Returns the type of the event.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $name, )*
                }
            }
        }
    };
}

events! {
    /// The server accepted the request.
    Created = "response.created" {
        /// The response so far.
        response: &'a Response,
    },
    /// The model started.
    InProgress = "response.in_progress" {
        /// The response so far.
        response: &'a Response,
    },
    /// The response ended successfully.
    Completed = "response.completed" {
        /// The whole response.
        response: &'a Response,
    },
    /// The response ended early, for example at the token limit.
    Incomplete = "response.incomplete" {
        /// The whole response.
        response: &'a Response,
    },
    /// The response ended with an error.
    Failed = "response.failed" {
        /// The whole response, with the error.
        response: &'a Response,
    },
    /// An item of the output starts.
    OutputItemAdded = "response.output_item.added" {
        /// The index of the item in `output`.
        output_index: usize,
        /// The item so far.
        item: &'a OutputItem,
    },
    /// An item of the output is complete.
    OutputItemDone = "response.output_item.done" {
        /// The index of the item in `output`.
        output_index: usize,
        /// The whole item.
        item: &'a OutputItem,
    },
    /// A part of an item starts.
    ContentPartAdded = "response.content_part.added" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The part so far.
        part: &'a OutputPart,
    },
    /// A part of an item is complete.
    ContentPartDone = "response.content_part.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The whole part.
        part: &'a OutputPart,
    },
    /// A piece of the text.
    OutputTextDelta = "response.output_text.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The new text.
        delta: &'a str,
        /// The log-probabilities of the new tokens, if the client requested them.
        logprobs: &'a [TokenLogprob],
    },
    /// A text is complete.
    OutputTextDone = "response.output_text.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The whole text.
        text: &'a str,
        /// The log-probabilities of all tokens of the text, if the client requested them.
        logprobs: &'a [TokenLogprob],
    },
    /// A piece of a refusal.
    RefusalDelta = "response.refusal.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The new text.
        delta: &'a str,
    },
    /// A refusal is complete.
    RefusalDone = "response.refusal.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The whole refusal.
        refusal: &'a str,
    },
    /// A piece of the raw reasoning.
    ReasoningTextDelta = "response.reasoning_text.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The new text.
        delta: &'a str,
    },
    /// The raw reasoning is complete.
    ReasoningTextDone = "response.reasoning_text.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `content`.
        content_index: usize,
        /// The whole text.
        text: &'a str,
    },
    /// A summary of the reasoning starts.
    SummaryPartAdded = "response.reasoning_summary_part.added" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `summary`.
        summary_index: usize,
        /// The part so far.
        part: &'a SummaryPart,
    },
    /// A summary of the reasoning is complete.
    SummaryPartDone = "response.reasoning_summary_part.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `summary`.
        summary_index: usize,
        /// The whole part.
        part: &'a SummaryPart,
    },
    /// A piece of a summary.
    SummaryTextDelta = "response.reasoning_summary_text.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `summary`.
        summary_index: usize,
        /// The new text.
        delta: &'a str,
    },
    /// The text of a summary is complete.
    SummaryTextDone = "response.reasoning_summary_text.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in `summary`.
        summary_index: usize,
        /// The whole text.
        text: &'a str,
    },
    /// A piece of the arguments of a function call.
    ArgumentsDelta = "response.function_call_arguments.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The new text.
        delta: &'a str,
    },
    /// The arguments of a function call are complete.
    ArgumentsDone = "response.function_call_arguments.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The name of the function. OpenAI's specification has it; newer SDKs do not.
        name: &'a str,
        /// The whole arguments.
        arguments: &'a str,
    },
    /// A piece of the input of a custom tool.
    CustomInputDelta = "response.custom_tool_call_input.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The new text.
        delta: &'a str,
    },
    /// The input of a custom tool is complete.
    CustomInputDone = "response.custom_tool_call_input.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The whole input.
        input: &'a str,
    },
    /// The tools of an MCP server are being listed.
    McpListingTools = "response.mcp_list_tools.in_progress" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// The tools of an MCP server are listed.
    McpListedTools = "response.mcp_list_tools.completed" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// A search in files begins.
    FileSearchBegun = "response.file_search_call.in_progress" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// The search in files is running.
    FileSearching = "response.file_search_call.searching" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// A search in files has ended.
    FileSearched = "response.file_search_call.completed" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// A text got an annotation.
    AnnotationAdded = "response.output_text.annotation.added" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The index of the part in the item.
        content_index: usize,
        /// The index of the annotation in the part.
        annotation_index: usize,
        /// The annotation.
        annotation: &'a Value,
    },
    /// A call of a tool of an MCP server begins.
    McpCalling = "response.mcp_call.in_progress" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// A piece of the arguments of a call of a tool of an MCP server.
    McpArgumentsDelta = "response.mcp_call_arguments.delta" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// The piece.
        delta: &'a str,
    },
    /// The arguments of a call of a tool of an MCP server are complete.
    McpArgumentsDone = "response.mcp_call_arguments.done" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
        /// All of them.
        arguments: &'a str,
    },
    /// A call of a tool of an MCP server has a result.
    McpCalled = "response.mcp_call.completed" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// A call of a tool of an MCP server failed.
    McpFailed = "response.mcp_call.failed" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// The model summarizes the conversation.
    Compacting = "response.compaction.compacting" {
        /// The id of the item.
        item_id: &'a str,
        /// The index of the item in `output`.
        output_index: usize,
    },
    /// The server accepted input that steers the response. Over WebSocket only.
    SteerAccepted = "response.steer.accepted" {
        /// The accepted input.
        steer: SteerRef<'a>,
    },
}

/// Names input that steers a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SteerRef<'a> {
    /// The id of the input.
    pub id: &'a str,
    /// The id of the response that the input steers.
    pub previous_response_id: &'a str,
}

impl ResponseEvent<'_> {
    /// Returns the new text, if this is a delta event.
    pub fn delta(&self) -> Option<&str> {
        match self {
            Self::OutputTextDelta { delta, .. }
            | Self::RefusalDelta { delta, .. }
            | Self::ReasoningTextDelta { delta, .. }
            | Self::SummaryTextDelta { delta, .. }
            | Self::ArgumentsDelta { delta, .. }
            | Self::McpArgumentsDelta { delta, .. }
            | Self::CustomInputDelta { delta, .. } => Some(delta),
            _ => None,
        }
    }
}

/// Writes an event with its sequence number, as one `event:` line and one `data:` line.
/// `obfuscation` is random padding that hides the length of the event.
pub fn write_event(
    out: &mut Vec<u8>,
    event: &ResponseEvent<'_>,
    sequence_number: u64,
    obfuscation: Option<&str>,
) -> serde_json::Result<()> {
    out.put_slice(b"event: ");
    out.put_slice(event.name().as_bytes());
    out.put_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, event)?;
    // Every event ends with its number: replace the closing brace.
    out.pop();
    write_end(out, sequence_number, obfuscation)
}

/// Writes the most frequent event, an [`OutputTextDelta`](ResponseEvent::OutputTextDelta) without
/// log-probabilities. The bytes are the same as those of [`write_event`].
pub fn write_text_delta(
    out: &mut Vec<u8>,
    item_id: &str,
    [output_index, content_index]: [usize; 2],
    delta: &str,
    sequence_number: u64,
    obfuscation: Option<&str>,
) -> serde_json::Result<()> {
    out.put_slice(
        b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":",
    );
    serde_json::to_writer(&mut *out, item_id)?;
    out.put_slice(b",\"output_index\":");
    serde_json::to_writer(&mut *out, &output_index)?;
    out.put_slice(b",\"content_index\":");
    serde_json::to_writer(&mut *out, &content_index)?;
    out.put_slice(b",\"delta\":");
    serde_json::to_writer(&mut *out, delta)?;
    out.put_slice(b",\"logprobs\":[]");
    write_end(out, sequence_number, obfuscation)
}

/// Writes the last fields of an event.
fn write_end(
    out: &mut Vec<u8>,
    sequence_number: u64,
    obfuscation: Option<&str>,
) -> serde_json::Result<()> {
    out.put_slice(b",\"sequence_number\":");
    serde_json::to_writer(&mut *out, &sequence_number)?;
    if let Some(padding) = obfuscation {
        out.put_slice(b",\"obfuscation\":");
        serde_json::to_writer(&mut *out, padding)?;
    }
    out.put_slice(b"}\n\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_any_other_event() {
        for (delta, obfuscation) in [
            ("", None),
            (" the", None),
            ("\"\\\n\u{1}</é😀", Some("aZ0")),
        ] {
            let (mut short, mut full) = (Vec::new(), Vec::new());
            write_text_delta(&mut short, "msg_1", [2, 3], delta, 17, obfuscation)
                .expect("text is JSON");
            let event = ResponseEvent::OutputTextDelta {
                item_id: "msg_1",
                output_index: 2,
                content_index: 3,
                delta,
                logprobs: &[],
            };
            write_event(&mut full, &event, 17, obfuscation).expect("text is JSON");
            assert_eq!(String::from_utf8(short), String::from_utf8(full));
        }
    }
}
