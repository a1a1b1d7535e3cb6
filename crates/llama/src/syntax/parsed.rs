//! The parsed output of a model, as a sequence of pieces.

/// A piece of the parsed output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A further piece of the answer's text.
    Text(String),
    /// More of the reasoning, which precedes the answer.
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
