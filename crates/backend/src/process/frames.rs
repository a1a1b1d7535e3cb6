//! The messages between both processes, one JSON value per line.
//!
//! Both ends are the same build of the same program, so they negotiate no version.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use loggia_wire::frame::Lines;
use loggia_wire::openai::{InputGrammar, Model, Vector};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::LONGEST_LINE;
use crate::{Abilities, BackendError, Embeddings, Event, Profile, ServedBy, TokenCount, WorkKind};

/// The number of a call, chosen by the caller.
pub(super) type CallNumber = u64;

/// A message to the process with the backend.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToHost {
    /// A call. The request is parsed separately, so that an invalid one fails alone.
    Call {
        call: CallNumber,
        id: Arc<str>,
        caller: Option<Arc<str>>,
        profile: Profile,
        strict: bool,
        work: WorkKind,
        /// Whether the prompt is to be counted only.
        counts: bool,
        request: Box<RawValue>,
        /// The grammars of the chat's tools, which are not in its JSON: one entry for each tool, or
        /// none at all.
        input_grammars: Vec<Option<InputGrammar>>,
    },
    /// The reader has consumed this number of events.
    Taken { call: CallNumber, events: u32 },
    /// The reader has dropped the reply.
    Left { call: CallNumber },
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
    /// The embeddings. The last message of the call.
    Embedded(Packed),
    /// The number of tokens of the prompt. The last message of the call.
    Counted(TokenCount),
    /// The call failed. The last message of the call.
    Failed(BackendError),
    /// The call succeeded. The last message of the call.
    End,
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
