//! What a response looks like, whatever is answered.

use std::sync::Arc;

use loggia_seal::Keys;
use loggia_wire::openai::responses::Response;

use crate::responses::compact::Compaction;
use crate::responses::tools::{Offered, ToolKind};

/// What a response looks like, whatever is answered.
#[derive(Clone, Debug)]
pub(crate) struct ResponseShape {
    /// What it repeats of the request.
    pub(crate) template: Response,
    /// The keys that seal reasoning and summaries, if the request asks for sealed texts.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Where the text goes if it is a summary of the conversation.
    pub(crate) compaction: Option<Compaction>,
    /// What the model may call.
    pub(crate) offered: Offered,
    /// Whether reasoning is shown as a summary; else as it is.
    pub(crate) summarizes: bool,
    /// Whether deltas are padded, so that their lengths tell nothing of the text.
    pub(crate) obfuscates: bool,
}

impl ResponseShape {
    /// What a call of this function becomes.
    pub(crate) fn kind_of(&self, function: &str) -> ToolKind {
        let tool = self.offered.called(function);
        tool.map_or(ToolKind::Function, |tool| tool.kind)
    }
}
