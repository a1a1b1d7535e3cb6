//! Conversations that OpenAI's API accepts and not every engine or chat template does, in a form that they take.
//!
//! Reading order: [`Change`] (what was changed, for the answer's header), [`arguments`] (earlier calls whose arguments are no JSON object),
//! [`tools`] (functions without a description, or without parameters).
//! Pure: values in, values out.

pub mod arguments;
pub mod tools;

use std::sync::Arc;

use loggia_wire::openai::ChatCompletionRequest;
use serde::{Deserialize, Serialize};

/// What a backend changed in a conversation so that its engine, or the model's chat template, takes it. `x-loggia-changed` lists the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Arguments of an earlier call that were no JSON object were made one.
    Arguments,
}

impl Change {
    /// The change as the header has it: what was changed, and how. Without commas, which separate the entries of a header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => "messages[].tool_calls[].function.arguments: completed to a JSON object",
        }
    }
}

/// Makes a request one that an engine takes which renders the model's own chat template: arguments are objects, and functions have a
/// description and parameters. Copies the request only where there is something to do and somebody else holds it.
pub(crate) fn for_a_template(request: &mut Arc<ChatCompletionRequest>) -> Vec<Change> {
    if let Some(tools) = request.tools.as_deref().and_then(tools::described_all) {
        Arc::make_mut(request).tools = Some(tools);
    }
    arguments::mend_all(request)
}
