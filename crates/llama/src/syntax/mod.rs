//! Parses the streamed output of a model in the syntax of its family: separates reasoning from the
//! answer, and calls from text.
//!
//! Reading order: [`Said`] (the output), `family` (recognizes the syntax of a chat template),
//! `reader` (the parser), `region` (the part of a text with calls), `object` and `xml` (the two
//! forms of a call), `json` (one value, character by character), `calls` (the part of a call that
//! has been released), `marks` (markers, which may be split anywhere); `writing` (the reverse: how
//! a call is written, for grammars).
//!
//! Pure: no tokens, no clock, and no OpenAI types except the offered tools. No model output causes
//! an error here: anything that is not a call is text.

mod calls;
mod family;
mod json;
mod marks;
mod object;
mod reader;
mod region;
mod writing;
mod xml;

pub(crate) use self::{
    calls::Pace,
    family::{Syntax, Tags},
    reader::{Begins, Offered, Reader},
    writing::{CallForm, Trigger, Watch},
};

/// A piece of the model's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// More of the answer.
    Text(String),
    /// More of the reasoning before it.
    Reasoning(String),
    /// The beginning of a call; its arguments follow.
    CallBegun {
        /// The index of the call, from 0.
        index: u32,
        /// The function's name, as the model wrote it.
        name: String,
    },
    /// More of a call's arguments: all pieces together are one JSON object.
    CallArguments {
        /// The index of the call.
        index: u32,
        /// The text to append.
        more: String,
    },
}

#[cfg(test)]
mod tests;
