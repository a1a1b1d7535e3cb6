//! What a model writes in its family's syntax, read from the stream: reasoning apart from the
//! answer, calls apart from text.
//!
//! Reading order: [`Said`] (what comes out), `family` (which syntax a chat template speaks),
//! `reader` (the machine that is stepped), `region` (where a call stands in the text), `object` and
//! `xml` (the two shapes of a call), `json` (one value, character by character), `calls` (what of a
//! call has left already), `marks` (markers that may be cut anywhere); `writing` (the other way
//! round: how a call is written, for grammars).
//!
//! Pure: no tokens, no clock, no OpenAI types but the tools that are offered. Whatever a model
//! writes, nothing here fails: what is no call is text.

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

/// A piece of what the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// More of the answer.
    Text(String),
    /// More of the reasoning before it.
    Reasoning(String),
    /// A call; its arguments follow.
    CallBegun {
        /// Calls are counted from 0.
        index: u32,
        /// The function's name, as the model wrote it.
        name: String,
    },
    /// More of a call's arguments: all pieces together are one JSON object.
    CallArguments {
        /// Which call.
        index: u32,
        /// What is appended.
        more: String,
    },
}

#[cfg(test)]
mod tests;
