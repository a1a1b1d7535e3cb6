//! The properties of the answer that follow from the request.

use serde_json::Value;

use crate::messages::signature::Signer;
use crate::messages::tools::Offered;

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
    /// Whether the prompt is only read, into the engine's cache. The answer is empty.
    pub(crate) prewarms: bool,
    /// For a compaction: the changes of the tools in the conversation.
    pub(crate) compaction: Option<Vec<Value>>,
    /// The edits that removed something from the conversation. `None` if the client asks for none.
    pub(crate) applied_edits: Option<Vec<Value>>,
    /// The classifiers that the client asks for.
    pub(crate) safeguards: Option<Vec<String>>,
    /// Whether the answer has a diagnosis of the prompt cache.
    pub(crate) diagnoses: bool,
}
