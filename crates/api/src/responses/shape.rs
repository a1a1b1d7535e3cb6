//! The parts of a response that are known before the model writes.

use std::sync::Arc;

use loggia_seal::Keys;
use loggia_wire::openai::responses::Response;

use crate::responses::summary::Compaction;
use crate::responses::tools::{Offered, ToolKind};

/// The parts of a response that are known before the model writes.
#[derive(Clone, Debug)]
pub(crate) struct ResponseShape {
    /// The response without output. It repeats fields of the request.
    pub(crate) template: Response,
    /// The keys that seal reasoning and summaries, if the request asks for sealed texts.
    pub(crate) keys: Option<Arc<Keys>>,
    /// The place of the summary, if the response is a summary of a conversation.
    pub(crate) compaction: Option<Compaction>,
    /// The tools that the model may call.
    pub(crate) offered: Offered,
    /// Whether the client gets reasoning in `summary` instead of `content`.
    pub(crate) summarizes: bool,
    /// Whether deltas are padded, so that their lengths reveal nothing about the text.
    pub(crate) obfuscates: bool,
    /// Whether the request only fills the engine's cache: its output is empty.
    pub(crate) prewarms: bool,
}

impl ResponseShape {
    /// Returns the type of the tool that this function stands for.
    pub(crate) fn kind_of(&self, function: &str) -> ToolKind {
        let tool = self.offered.called(function);
        tool.map_or(ToolKind::Function, |tool| tool.kind)
    }
}
