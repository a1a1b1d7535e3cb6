//! The trait [`Writer`] for streamed answers: one implementation per format, all with the same
//! events as input.

use std::sync::Arc;

use loggia_backend::{BackendError, Event, Profile, ServedBy};
use loggia_wire::frame::sse;
use loggia_wire::openai::responses::Response;

use crate::ApiError;
use crate::custom_tools::CustomTools;
use crate::messages::MessageShape;
use crate::responses::ResponseShape;

/// Writes one streamed answer. It does no I/O. It reads the clock only for the creation time, if
/// the backend does not report one.
pub(crate) trait Writer: Send {
    /// Writes the piece of the answer that an event contains, if any.
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), BackendError>;

    /// Writes the end of a successful answer. Fails if the answer has no proper end.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BackendError>;

    /// Returns the answer as a response that has ended, if it is one: after all events, and before
    /// [`finish`](Self::finish) writes the last one. Fails if the answer has no proper end.
    fn response(&mut self) -> Result<Option<&mut Response>, BackendError> {
        Ok(None)
    }

    /// Writes that input which steers the answer is accepted, and ends the output, if the answer
    /// can end here. Returns whether it has ended.
    fn steer(&mut self, id: &str, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        let _ = (id, out);
        Ok(false)
    }

    /// Writes the event that reports an error. Nothing follows.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>);
}

/// The properties that are the same in every piece of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The id: `chatcmpl-…`, `cmpl-…`, `resp_…` or `msg_…`.
    pub(crate) id: Arc<str>,
    /// The model name that the client sent.
    pub(crate) model: Arc<str>,
    /// The profile, which determines details of the format.
    pub(crate) profile: Profile,
    /// The kind of the answer.
    pub(crate) shape: Shape,
    /// The number of choices.
    pub(crate) choices: usize,
    /// Whether the client requested a chunk with the usage.
    pub(crate) include_usage: bool,
}

/// The kind of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A chat with these custom tools: `chat.completion`.
    Chat(CustomTools),
    /// A completion: `text_completion`.
    Text {
        /// Whether the text begins with the prompt.
        echoes: bool,
    },
    /// A response: `response`.
    Response(Arc<ResponseShape>),
    /// A message of Anthropic's API: `message`.
    Message(Arc<MessageShape>),
}

impl Head {
    /// Returns the `system_fingerprint` of the answer.
    pub(crate) fn fingerprint(&self, served_by: &ServedBy) -> Arc<str> {
        match self.profile {
            Profile::Openai => Arc::clone(&served_by.fingerprint),
            Profile::Original => "fp_ollama".into(),
        }
    }
}

/// Writes the event that reports an error, for chats and completions.
pub(crate) fn write_failure(error: &ApiError, profile: Profile, out: &mut Vec<u8>) {
    // Cannot fail: four strings are always valid JSON.
    let _ = sse::write(out, &error.clone().under(profile).body());
}
