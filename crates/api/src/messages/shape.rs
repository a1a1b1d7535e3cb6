//! The properties of the answer that follow from the request.

use serde_json::Value;

use crate::messages::signature::Signer;
use crate::messages::tools::Offered;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An answer.
    #[default]
    Answer,
    /// An answer that ends after the compaction, if one is made before it.
    PausedAnswer,
    /// A summary of the conversation.
    Summary,
    /// The engine reads the prompt into its cache. The answer is empty.
    Prewarming,
}

/// The properties of the answer that follow from the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct MessageShape {
    /// Makes the signatures of reasoning.
    pub(crate) signer: Signer,
    /// The tools that the model may call.
    pub(crate) offered: Offered,
    /// The client's stop sequences.
    pub(crate) stops: Vec<String>,
    /// Whether the text of the reasoning is left out.
    pub(crate) omits_thinking: bool,
    pub(crate) purpose: Purpose,
    /// The changes of the tools in the conversation, for the block of a compaction.
    pub(crate) tool_changes: Vec<Value>,
    /// The edits that removed something from the conversation. `None` if the client asks for none.
    pub(crate) applied_edits: Option<Vec<Value>>,
    /// The classifiers that the client asks for.
    pub(crate) safeguards: Option<Vec<String>>,
    /// Whether the answer has a diagnosis of the prompt cache.
    pub(crate) diagnoses: bool,
}
