//! The messages between both processes, one JSON value per line.
//!
//! Both ends are the same build of the same program, so they negotiate no version.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use loggia_wire::frame::Lines;
use loggia_wire::openai::{CompletionUsage, InputGrammar, Model, Vector};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::LONGEST_LINE;
use crate::{
    Abilities, AudioPiece, AudioReply, BackendError, CallHead, Embeddings, Event, Profile, Rerank,
    Reranked, ServedBy, TokenCount, WorkKind,
};

/// The number of a call, chosen by the caller.
pub(super) type CallNumber = u64;

/// A message to the process with the backend.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToHost {
    /// A call. The request is parsed separately, so that an invalid one fails alone.
    Call {
        call: CallNumber,
        head: SentHead,
        work: WorkKind,
        /// Whether the prompt is to be counted only.
        counts: bool,
        request: Box<RawValue>,
        /// The grammars of the chat's tools, which are not in its JSON: one entry for each tool, or
        /// none at all.
        input_grammars: Vec<Option<InputGrammar>>,
    },
    /// A call about a recording. The host asks for the pieces of the file.
    Recording {
        call: CallNumber,
        head: SentHead,
        recording: SentRecording,
    },
    /// A call for reranking.
    Rerank {
        call: CallNumber,
        head: SentHead,
        rerank: Rerank,
    },
    /// The next piece of a recording.
    Piece { call: CallNumber, piece: Base64 },
    /// The reader has consumed this number of events.
    Taken { call: CallNumber, events: u32 },
    /// The reader has dropped the reply.
    Left { call: CallNumber },
}

/// The part of a call's head that the backend needs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SentHead {
    id: Arc<str>,
    caller: Option<Arc<str>>,
    profile: Profile,
    strict: bool,
}

impl From<CallHead> for SentHead {
    fn from(head: CallHead) -> Self {
        Self {
            id: head.id,
            caller: head.caller,
            profile: head.profile,
            strict: head.strict,
        }
    }
}

impl From<SentHead> for CallHead {
    fn from(sent: SentHead) -> Self {
        Self {
            caller: sent.caller,
            profile: sent.profile,
            strict: sent.strict,
            ..Self::new(sent.id)
        }
    }
}

/// A recording, without the content of its file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SentRecording {
    pub(super) model: String,
    pub(super) translates: bool,
    pub(super) name: String,
    pub(super) media_type: Option<String>,
    pub(super) length: u64,
    pub(super) fields: Vec<(String, String)>,
    pub(super) stream: bool,
}

/// Bytes, as base64.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Base64(String);

impl From<&[u8]> for Base64 {
    fn from(bytes: &[u8]) -> Self {
        Self(BASE64_STANDARD.encode(bytes))
    }
}

impl From<Base64> for Bytes {
    /// Invalid base64 becomes no bytes: the other side writes only valid one.
    fn from(text: Base64) -> Self {
        BASE64_STANDARD.decode(text.0).unwrap_or_default().into()
    }
}

/// A message from the process with the backend.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromHost {
    /// The backend can take calls.
    Ready(Hello),
    /// The backend could not be created, for this reason.
    Failed { why: String },
    /// A message about a call.
    Call { call: CallNumber, said: CallMessage },
}

/// The models of the backend, sent once at the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) models: Vec<(Model, Abilities)>,
}

/// A message about a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallMessage {
    Accepted(ServedBy),
    Event(Event),
    /// The host wants the next piece of the recording.
    Wants,
    /// The answer to a call about a recording has begun.
    AudioBegun(AudioHead),
    /// Bytes of an answer about a recording.
    AudioBytes(Base64),
    /// The tokens of an answer about a recording.
    AudioUsage(CompletionUsage),
    /// The backend does not hear. The last message of the call.
    NoAudio,
    /// The embeddings. The last message of the call.
    Embedded(Packed),
    /// The scores of documents; `None` if the backend does not rerank. The last message of the call.
    Reranked(Option<Reranked>),
    /// The number of tokens of the prompt. The last message of the call.
    Counted(TokenCount),
    /// The call failed. The last message of the call.
    Failed(BackendError),
    /// The call succeeded. The last message of the call.
    End,
}

/// The head of an answer about a recording.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AudioHead {
    pub(super) served_by: ServedBy,
    pub(super) media_type: String,
    pub(super) length: Option<u64>,
}

impl AudioHead {
    pub(super) fn of(reply: &AudioReply) -> Self {
        Self {
            served_by: reply.served_by.clone(),
            media_type: reply.media_type.clone(),
            length: reply.length,
        }
    }
}

impl From<Event> for CallMessage {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

impl From<AudioPiece> for CallMessage {
    fn from(piece: AudioPiece) -> Self {
        match piece {
            AudioPiece::Bytes(bytes) => Self::AudioBytes((&bytes[..]).into()),
            AudioPiece::Usage(usage) => Self::AudioUsage(usage),
        }
    }
}

/// Embeddings with their vectors in base64, which is half as long as decimals and faster to parse.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    served_by: ServedBy,
    vectors: Vec<Vector>,
    prompt_tokens: u64,
}

impl From<Embeddings> for Packed {
    fn from(embeddings: Embeddings) -> Self {
        let Embeddings {
            served_by,
            vectors,
            prompt_tokens,
        } = embeddings;
        Self {
            served_by,
            vectors: vectors.into_iter().map(Vector::Base64).collect(),
            prompt_tokens,
        }
    }
}

impl From<Packed> for Embeddings {
    fn from(packed: Packed) -> Self {
        let Packed {
            served_by,
            vectors,
            prompt_tokens,
        } = packed;
        Self {
            served_by,
            vectors: vectors.into_iter().map(Vector::into_numbers).collect(),
            prompt_tokens,
        }
    }
}

/// Reads messages from a pipe, one per line.
pub(super) struct Frames<R> {
    input: R,
    lines: Lines,
    room: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            lines: Lines::new(LONGEST_LINE),
            room: BytesMut::new(),
        }
    }

    /// Returns the next message. `None` if the other side has ended or sends invalid data.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let line = self.line().await?;
        serde_json::from_slice(&line)
            .inspect_err(|error| {
                tracing::error!(line = error.line(), column = error.column(), "no frame");
            })
            .ok()
    }

    async fn line(&mut self) -> Option<Bytes> {
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => return Some(line),
                Ok(None) => {}
                Err(_) => return None,
            }
            self.room.reserve(16 << 10);
            match self.input.read_buf(&mut self.room).await {
                Ok(read) if read > 0 => self.lines.push(self.room.split().freeze()),
                _ => return None,
            }
        }
    }
}
