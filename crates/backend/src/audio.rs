//! [`Audio`]: recordings that become text, and text that becomes speech.

use std::fmt;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use loggia_wire::Extra;
use loggia_wire::openai::CompletionUsage;

use crate::{BackendError, Call, Content, ServedBy};

/// A call for a transcription, a translation or speech.
pub type AudioCall = Call<Audio>;

/// The work of a call that hears or speaks.
#[derive(Clone, Debug)]
pub struct Audio {
    /// The backend's own name for the model.
    pub model: String,
    /// The task of the model.
    pub task: AudioTask,
}

/// A task of a model that hears or speaks.
#[derive(Clone, Debug)]
pub enum AudioTask {
    /// `/v1/audio/transcriptions`: text in the language of the recording.
    Transcribe(Recording),
    /// `/v1/audio/translations`: text in English.
    Translate(Recording),
    /// `/v1/audio/speech`: the fields of the request, already checked, without `model`.
    Speak(Extra),
}

/// A recording, and the fields that were sent with it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The client's name for the file. Engines recognize the format by its ending.
    pub name: String,
    /// The media type of the file, if the client sent one.
    pub media_type: Option<String>,
    /// The file.
    pub content: Content,
    /// The other fields of the form, already checked, in the client's order, without `model`.
    pub fields: Vec<(String, String)>,
    /// Whether the text is streamed as it is recognized.
    pub stream: bool,
}

impl Recording {
    /// Returns the value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Audio {
    /// Returns the end of the path of the work's endpoint in OpenAI's API.
    pub fn path(&self) -> &'static str {
        match self.task {
            AudioTask::Transcribe(_) => "/audio/transcriptions",
            AudioTask::Translate(_) => "/audio/translations",
            AudioTask::Speak(_) => "/audio/speech",
        }
    }
}

/// The answer to a call that hears or speaks, which has begun.
pub struct AudioReply {
    /// The backend and model that answer.
    pub served_by: ServedBy,
    /// The media type of the answer. Streams of events have `text/event-stream`.
    pub media_type: String,
    /// The number of bytes of the answer, if it is known.
    pub length: Option<u64>,
    /// The answer. No piece follows an error.
    pub pieces: BoxStream<'static, Result<AudioPiece, BackendError>>,
}

impl AudioReply {
    /// Returns whether the answer is a stream of events.
    pub fn is_events(&self) -> bool {
        self.media_type.starts_with("text/event-stream")
    }
}

impl fmt::Debug for AudioReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioReply")
            .field("served_by", &self.served_by)
            .field("media_type", &self.media_type)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AudioPiece {
    /// Bytes of the answer. In a stream of events, whole events.
    Bytes(Bytes),
    /// The number of tokens used, if the engine counts them.
    Usage(CompletionUsage),
}
