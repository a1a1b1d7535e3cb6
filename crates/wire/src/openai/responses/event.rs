//! The events of a streamed response.

use bytes::BufMut;
use serde::Serialize;

use super::{OutputItem, OutputPart, Response, SummaryPart};
use crate::openai::TokenLogprob;

macro_rules! events {
    ($( $(#[$meta:meta])* $variant:ident = $name:literal { $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)? } ),* $(,)?) => {
        /// An event of a streamed response, but for its `sequence_number`.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum ResponseEvent<'a> {
            $( $(#[$meta])* #[serde(rename = $name)] $variant { $( $(#[$field_meta])* $field: $type ),* }, )*
        }

        impl ResponseEvent<'_> {
            /// Its type.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $name, )*
                }
            }
        }
    };
}

events! {
    /// The response has been begun.
    Created = "response.created" {
        /// As it is now.
        response: &'a Response,
    },
    /// The model is at work.
    InProgress = "response.in_progress" {
        /// As it is now.
        response: &'a Response,
    },
    /// The end: all went well.
    Completed = "response.completed" {
        /// As it is now.
        response: &'a Response,
    },
    /// The end: the response was cut.
    Incomplete = "response.incomplete" {
        /// As it is now.
        response: &'a Response,
    },
    /// The end: something went wrong.
    Failed = "response.failed" {
        /// As it is now.
        response: &'a Response,
    },
    /// An item begins.
    OutputItemAdded = "response.output_item.added" {
        /// Its place in `output`.
        output_index: usize,
        /// As it is now.
        item: &'a OutputItem,
    },
    /// An item is all there.
    OutputItemDone = "response.output_item.done" {
        /// Its place in `output`.
        output_index: usize,
        /// As it is now.
        item: &'a OutputItem,
    },
    /// A part of an item begins.
    ContentPartAdded = "response.content_part.added" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// As it is now.
        part: &'a OutputPart,
    },
    /// A part of an item is all there.
    ContentPartDone = "response.content_part.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// As it is now.
        part: &'a OutputPart,
    },
    /// More text.
    OutputTextDelta = "response.output_text.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// What is new.
        delta: &'a str,
        /// Log-probabilities of its tokens, where asked for.
        logprobs: &'a [TokenLogprob],
    },
    /// A text is all there.
    OutputTextDone = "response.output_text.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// All of it.
        text: &'a str,
        /// Log-probabilities of its tokens, where asked for.
        logprobs: &'a [TokenLogprob],
    },
    /// More of a refusal.
    RefusalDelta = "response.refusal.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// What is new.
        delta: &'a str,
    },
    /// A refusal is all there.
    RefusalDone = "response.refusal.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// All of it.
        refusal: &'a str,
    },
    /// More raw reasoning.
    ReasoningTextDelta = "response.reasoning_text.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// What is new.
        delta: &'a str,
    },
    /// Raw reasoning is all there.
    ReasoningTextDone = "response.reasoning_text.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The part's place in `content`.
        content_index: usize,
        /// All of it.
        text: &'a str,
    },
    /// A summary of reasoning begins.
    SummaryPartAdded = "response.reasoning_summary_part.added" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The summary's place in `summary`.
        summary_index: usize,
        /// As it is now.
        part: &'a SummaryPart,
    },
    /// A summary of reasoning is all there.
    SummaryPartDone = "response.reasoning_summary_part.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The summary's place in `summary`.
        summary_index: usize,
        /// As it is now.
        part: &'a SummaryPart,
    },
    /// More of a summary.
    SummaryTextDelta = "response.reasoning_summary_text.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The summary's place in `summary`.
        summary_index: usize,
        /// What is new.
        delta: &'a str,
    },
    /// The text of a summary is all there.
    SummaryTextDone = "response.reasoning_summary_text.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The summary's place in `summary`.
        summary_index: usize,
        /// All of it.
        text: &'a str,
    },
    /// More of a function's arguments.
    ArgumentsDelta = "response.function_call_arguments.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// What is new.
        delta: &'a str,
    },
    /// A function's arguments are all there.
    ArgumentsDone = "response.function_call_arguments.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// The function. Newer SDKs do not have it, the specification does.
        name: &'a str,
        /// All of them.
        arguments: &'a str,
    },
    /// More of the input of a custom tool.
    CustomInputDelta = "response.custom_tool_call_input.delta" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// What is new.
        delta: &'a str,
    },
    /// The input of a custom tool is all there.
    CustomInputDone = "response.custom_tool_call_input.done" {
        /// The item.
        item_id: &'a str,
        /// The item's place in `output`.
        output_index: usize,
        /// All of it.
        input: &'a str,
    },
}

impl ResponseEvent<'_> {
    /// What it adds to a text, if it does.
    pub fn delta(&self) -> Option<&str> {
        match self {
            Self::OutputTextDelta { delta, .. }
            | Self::RefusalDelta { delta, .. }
            | Self::ReasoningTextDelta { delta, .. }
            | Self::SummaryTextDelta { delta, .. }
            | Self::ArgumentsDelta { delta, .. }
            | Self::CustomInputDelta { delta, .. } => Some(delta),
            _ => None,
        }
    }
}

/// Writes an event with its number: a line with its name, a line with its data. `obfuscation` is
/// padding against those who see only how long it is.
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
    // The object is opened again for the number, which every event ends with.
    out.pop();
    out.put_slice(b",\"sequence_number\":");
    serde_json::to_writer(&mut *out, &sequence_number)?;
    if let Some(padding) = obfuscation {
        out.put_slice(b",\"obfuscation\":");
        serde_json::to_writer(&mut *out, padding)?;
    }
    out.put_slice(b"}\n\n");
    Ok(())
}
