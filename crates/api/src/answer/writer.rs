//! What writes a streamed answer: one writer for each shape that a client can ask for, all fed the
//! same events.

use std::sync::Arc;

use loggia_backend::{BackendError, Event, Profile, ServedBy};
use loggia_wire::frame::sse;

use crate::ApiError;
use crate::responses::ResponseShape;

/// Writes one streamed answer. It is stepped by hand: no I/O, and no clock but for the time of an
/// answer whose backend does not report it.
pub(crate) trait Writer: Send {
    /// Writes what an event adds to the answer, if anything.
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), BackendError>;

    /// Writes the end of an answer that went well. An answer without a proper end is an error.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BackendError>;

    /// Writes the event that reports a failure. Nothing follows.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>);
}

/// What is the same in every piece of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `chatcmpl-…`, `cmpl-…`, `resp_…`.
    pub(crate) id: Arc<str>,
    /// The name the client asked for.
    pub(crate) model: Arc<str>,
    /// How the answer's shape is.
    pub(crate) profile: Profile,
    /// What kind of answer it is.
    pub(crate) shape: Shape,
    /// How many choices there will be.
    pub(crate) choices: usize,
    /// Whether the client wants a chunk with the usage.
    pub(crate) include_usage: bool,
}

/// What kind of answer it is.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A chat's: `chat.completion`.
    Chat,
    /// A text's: `text_completion`.
    Text {
        /// Whether it begins with the prompt.
        echoes: bool,
    },
    /// A response: `response`.
    Response(Arc<ResponseShape>),
}

impl Head {
    /// `system_fingerprint` of the answer.
    pub(crate) fn fingerprint(&self, served_by: &ServedBy) -> Arc<str> {
        match self.profile {
            Profile::Openai => Arc::clone(&served_by.fingerprint),
            Profile::Original => "fp_ollama".into(),
        }
    }
}

/// Writes the event that reports a failure, as chats and texts have it.
pub(crate) fn write_failure(error: &ApiError, profile: Profile, out: &mut Vec<u8>) {
    // Four strings are always JSON.
    let _ = sse::write(out, &error.clone().under(profile).body());
}
