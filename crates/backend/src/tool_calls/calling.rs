//! How tools are offered to an engine that cannot take them as they are: told in words, or as a
//! schema of a call or the answer.

use std::sync::Arc;

use loggia_wire::openai::{ChatCompletionRequest, Message, ToolCall};

use super::{Shows, call_or_answer, has_calls, marked, spelled_out, told};
use crate::{BackendError, ChatCall, Reply};

/// A way to offer tools that may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calling {
    /// The model's template knows nothing of tools: they are told in the system message, and calls
    /// are read from the text.
    Told,
    /// Beside a `response_format` the engine would let no call through: the answer is held to a
    /// schema of one call or the answer.
    CallOrAnswer,
}

impl Calling {
    /// The way that a request needs, or none where there is nothing to call, or a call must be
    /// made.
    pub(crate) fn needed(request: &ChatCompletionRequest, knows_tools: bool) -> Option<Self> {
        if call_or_answer::is_asked_for(request) {
            return Some(Self::CallOrAnswer);
        }
        let may_call = !request.must_call() && !request.callable_functions().is_empty();
        (may_call && !knows_tools).then_some(Self::Told)
    }

    /// Starts a chat this way: `start` asks the engine.
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

    /// The request as the engine is asked.
    fn asked(self, request: &ChatCompletionRequest) -> ChatCompletionRequest {
        match self {
            Self::Told => marked::as_text(request),
            Self::CallOrAnswer => call_or_answer::as_a_schema(request),
        }
    }

    /// The engine's reply, of one choice, as one to what the client asked.
    fn back(self, reply: Reply, asked: &ChatCompletionRequest, id: &Arc<str>) -> Reply {
        match self {
            Self::Told => marked::back(reply, asked, id),
            Self::CallOrAnswer => call_or_answer::back(reply, asked, id),
        }
    }
}

/// The messages with earlier calls and their results in the contents, for a template that has no
/// place for them; `None` where there are none.
pub(crate) fn earlier_as_text(messages: &[Message]) -> Option<Vec<Message>> {
    let write = |calls: &[ToolCall]| {
        calls
            .iter()
            .map(|call| told::written(&call.function.name, &call.function.arguments))
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
