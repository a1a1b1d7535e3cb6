//! What a backend answers: a stream of events, the same for whole and streamed answers.

use std::fmt;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::BackendError;
use crate::conversation::Change;

/// The events of one answer. After an error, nothing follows.
pub type Events = BoxStream<'static, Result<Event, BackendError>>;

/// An answer that has begun.
pub struct Reply {
    /// Who gives it.
    pub served_by: ServedBy,
    /// What is said, as it is said. Where the client asked for a whole answer, so does the backend
    /// upstream, and it comes as one chunk.
    pub events: Events,
}

impl Reply {
    /// Waits for the first event that says something: by then the answer has begun. None where it
    /// ends without one.
    ///
    /// # Errors
    /// Where the answer fails before that.
    pub async fn first_word(&mut self) -> Result<Option<Event>, BackendError> {
        loop {
            match self.events.next().await.transpose()? {
                Some(Event::Waiting(_)) => {}
                first => return Ok(first),
            }
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("served_by", &self.served_by)
            .finish_non_exhaustive()
    }
}

/// Who gives an answer, and to what: what `x-loggia-served-by`, `x-loggia-changed` and
/// a part of `x-loggia-ignored` tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    /// The backend's name: `embedded`, `ollama`, or the NAME of `--openai NAME=URL`.
    pub backend: Arc<str>,
    /// The model, as the backend names it.
    pub model: Arc<str>,
    /// The machine, where the backend has several.
    pub node: Option<Arc<str>>,
    /// `system_fingerprint`: see [`fingerprint`].
    pub fingerprint: Arc<str>,
    /// What the backend changed in the conversation so that the model can be asked: what
    /// `x-loggia-changed` tells.
    pub changed: Vec<Change>,
    /// What of the request turned out to have no effect when the backend was asked, by name: what
    /// `x-loggia-ignored` lists beside what was known before.
    #[serde(default)]
    pub ignored: Vec<String>,
}

impl ServedBy {
    /// An answer of this backend to this model, with a fingerprint made of both, from no particular
    /// machine and with nothing changed in the conversation.
    pub fn new(backend: &str, model: &str) -> Self {
        Self {
            backend: backend.into(),
            model: model.into(),
            node: None,
            fingerprint: fingerprint(&[backend, model]),
            changed: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

/// What happens next in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Nothing to show yet, and why: what heartbeats stand for.
    Waiting(Waiting),
    /// More of the answer.
    Chunk(Chunk),
    /// The engine ended the answer before its model did: the `finish_reason` that follows is
    /// `length`.
    EndedEarly(EarlyEnd),
    /// What it cost, once, after the last chunk: whether or not the client asked to see it.
    Usage(CompletionUsage),
}

/// Why there is nothing to show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Others are before it.
    Queued,
    /// The model is being loaded.
    LoadingModel,
    /// The prompt is being read.
    ReadingPrompt,
}

/// Why an engine ended an answer before its model did, at no limit that the client set:
/// `x-loggia-cut-short` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyEnd {
    /// The answer repeated itself.
    Repetition,
    /// The context was full before the answer had the tokens that the client allowed.
    Context,
    /// The engine does not say.
    Unknown,
}

impl EarlyEnd {
    /// Its name in `x-loggia-cut-short`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repetition => "repetition",
            Self::Context => "context",
            Self::Unknown => "unknown",
        }
    }
}

/// What varies from chunk to chunk. The rest of a `chat.completion.chunk` (id, model, fingerprint)
/// belongs to the answer as a whole and is written by the door, so that no backend can get it
/// wrong.
///
/// A backend need not name the role, nor keep content and `finish_reason` apart: the door does
/// both. Every choice must end with a `finish_reason`; an answer that lacks one is a failed one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// When the answer began, in Unix seconds, where the engine tells; only the first chunk's
    /// counts.
    pub created: Option<u64>,
    /// What is new.
    pub choices: Vec<ChunkChoice>,
    /// Fields of an engine's own, beside `choices`.
    pub extra: Extra,
}

impl Chunk {
    /// More of one choice.
    pub fn of(choice: ChunkChoice) -> Self {
        Self {
            choices: vec![choice],
            ..Self::default()
        }
    }
}

/// `fp_` and ten hex digits that change when one of `parts` (backend, weights, engine version)
/// does, and only then.
pub fn fingerprint(parts: &[&str]) -> Arc<str> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digits = hash
        .finalize()
        .iter()
        .take(5)
        .fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    format!("fp_{digits:010x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_its_parts_and_only_then() {
        assert_eq!(
            fingerprint(&["ollama", "abc"]),
            fingerprint(&["ollama", "abc"])
        );
        assert_ne!(
            fingerprint(&["ollama", "abc"]),
            fingerprint(&["ollamaa", "bc"])
        );
        assert_eq!(fingerprint(&[]).len(), 13);
    }
}
