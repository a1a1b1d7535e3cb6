//! Chooses how to offer tools to an engine that does not support them directly: described in a
//! message, or as a schema.

use std::sync::Arc;

use loggia_wire::openai::{ChatCompletionRequest, Message, ToolCall};

use super::{Shows, call_or_answer, described_tools, has_calls, marked, spelled_out};
use crate::{BackendError, ChatCall, Reply};

/// A way to offer tools that the model may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calling {
    /// The model's template does not support tools. The system message describes them, and calls
    /// are parsed from the text.
    Described,
    /// Beside a `response_format` the engine would allow no call. The answer must match a schema of
    /// one call or the answer.
    CallOrAnswer,
}

impl Calling {
    /// Returns the way that a request needs. `None` if there are no tools, or if a call is forced.
    pub(crate) fn needed(request: &ChatCompletionRequest, knows_tools: bool) -> Option<Self> {
        if call_or_answer::is_asked_for(request) {
            return Some(Self::CallOrAnswer);
        }
        let may_call = !request.must_call() && !request.callable_functions().is_empty();
        (may_call && !knows_tools).then_some(Self::Described)
    }

    /// Starts a chat with tools in this form. `start` sends it to the engine.
    pub(crate) async fn started<F>(
        self,
        call: ChatCall,
        start: impl FnOnce(ChatCall) -> F,
    ) -> Result<Reply, BackendError>
    where
        F: Future<Output = Result<Reply, BackendError>>,
    {
        let (asked, id) = (Arc::clone(&call.work), Arc::clone(&call.head.id));
        let work = Arc::new(self.asked(&asked));
        Ok(self.back(start(ChatCall { work, ..call }).await?, &asked, &id))
    }

    /// Returns the request as it is sent to the engine.
    pub(crate) fn asked(self, request: &ChatCompletionRequest) -> ChatCompletionRequest {
        match self {
            Self::Described => marked::as_text(request),
            Self::CallOrAnswer => call_or_answer::as_a_schema(request),
        }
    }

    /// Converts the engine's reply, of one choice, to a reply to the client's request.
    fn back(self, reply: Reply, asked: &ChatCompletionRequest, id: &Arc<str>) -> Reply {
        match self {
            Self::Described => marked::back(reply, asked, id),
            Self::CallOrAnswer => call_or_answer::back(reply, asked, id),
        }
    }
}

/// Returns the messages with earlier calls and results as text, for a template that does not
/// support them. `None` if there are none.
pub(crate) fn earlier_as_text(messages: &[Message]) -> Option<Vec<Message>> {
    let write = |calls: &[ToolCall]| {
        calls
            .iter()
            .map(|call| {
                described_tools::call_as_text(&call.function.name, &call.function.arguments)
            })
            .collect::<String>()
    };
    has_calls(messages).then(|| {
        spelled_out(
            messages,
            Shows {
                calls: false,
                results: false,
            },
            write,
        )
    })
}
