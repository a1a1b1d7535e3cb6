//! [`Reply`] and [`Event`]: the answer of a backend as a stream of events, for complete and
//! streamed answers.

use std::fmt;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::BackendError;
use crate::conversation::Change;

/// The events of an answer. No event follows an error.
pub type Events = BoxStream<'static, Result<Event, BackendError>>;

/// An answer that has begun.
pub struct Reply {
    /// The backend and model that answer.
    pub served_by: ServedBy,
    /// The events. If the client requested a complete answer, the engine sends a complete one too,
    /// and it arrives as one chunk.
    pub events: Events,
}

impl Reply {
    /// Waits for the first event with content, which means that the answer has begun. Returns
    /// `None` if the answer ends without one.
    ///
    /// # Errors
    /// Fails if the answer fails before that event.
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

/// The backend and model that answer, and what they changed or ignored: the values of
/// `x-loggia-served-by`, `x-loggia-changed` and a part of `x-loggia-ignored`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    /// The name of the backend: `embedded`, `ollama`, or the NAME of `--openai NAME=URL`.
    pub backend: Arc<str>,
    /// The backend's own name of the model.
    pub model: Arc<str>,
    /// The machine, if the backend has several.
    pub node: Option<Arc<str>>,
    /// `system_fingerprint`: see [`fingerprint`].
    pub fingerprint: Arc<str>,
    /// The changes of the backend to the conversation, for the header `x-loggia-changed`.
    pub changed: Vec<Change>,
    /// Fields that the backend ignored, for the header `x-loggia-ignored`. It also lists those that
    /// were known before the call.
    #[serde(default)]
    pub ignored: Vec<String>,
}

impl ServedBy {
    /// Creates the value for an answer of this backend and model: the fingerprint is derived from
    /// both, there is no machine, and nothing is changed or ignored.
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

/// An event of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// There is no content yet, for this reason. Heartbeats are sent in the meantime.
    Waiting(Waiting),
    /// A piece of the answer.
    Chunk(Chunk),
    /// The engine ended the answer before the model did. The `finish_reason` that follows is
    /// `length`.
    EndedEarly(EarlyEnd),
    /// This stop string ended the answer. The `finish_reason` that follows is `stop`. Sent by
    /// engines that report it.
    StopString(String),
    /// The number of tokens used. Sent once, after the last chunk, even if the client did not
    /// request it.
    Usage(CompletionUsage),
    /// A tool that the server itself runs. No engine sends it.
    ServerTool(ServerTool),
}

/// Work of the server itself while an answer is made: it runs tools of MCP servers, and compacts
/// conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerTool {
    /// The tools of a server were listed.
    Listed {
        /// The name that the request gives the server.
        server: String,
        /// The tools, as OpenAI's API shows them.
        tools: Vec<Value>,
    },
    /// The client is asked whether a tool may be called.
    NeedsApproval {
        /// The name that the request gives the server.
        server: String,
        /// The name of the tool.
        name: String,
        /// The arguments, as JSON.
        arguments: String,
    },
    /// A call begins.
    Begun {
        /// The name that the request gives the server.
        server: String,
        /// The name of the tool.
        name: String,
        /// The arguments, as JSON.
        arguments: String,
        /// The approval request that the client granted.
        approval: Option<String>,
    },
    /// The call that began last has ended.
    Ended {
        /// The text of the result, or the error as OpenAI's API shows it.
        result: Result<String, Value>,
    },
    /// A search in files begins.
    SearchBegun {
        /// The queries of the search.
        queries: Vec<String>,
    },
    /// The search that began last has ended.
    SearchEnded {
        /// The results in OpenAI's format, if the client wants them; or the error of the search.
        results: Result<Option<Vec<Value>>, String>,
    },
    /// The text that was written last cites a file.
    Cited {
        /// The id of the file.
        file_id: String,
        /// The client's name for the file.
        filename: String,
    },
    /// The beginning of the conversation was replaced by a summary.
    Compacted {
        /// The summary.
        summary: String,
        /// The summary and the messages beside it, sealed: the client sends them back with the next
        /// request. `None` if the server has no keys.
        encrypted_content: Option<String>,
        /// The tokens of the summary, if the engine reports them. They are part of the
        /// [`Usage`](Event::Usage) of the answer.
        usage: Option<Box<CompletionUsage>>,
    },
}

/// The reason why there is no content yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// The request is in the queue.
    Queued,
    /// The model is being loaded.
    LoadingModel,
    /// The engine is processing the prompt.
    ReadingPrompt,
}

/// The reason why an engine ended an answer before the model did, without reaching a limit of the
/// client. The value of `x-loggia-cut-short`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyEnd {
    /// The answer repeated itself.
    Repetition,
    /// The context was full before the answer reached the client's token limit.
    Context,
    /// The engine does not report the reason.
    Unknown,
}

impl EarlyEnd {
    /// Returns the value of `x-loggia-cut-short`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repetition => "repetition",
            Self::Context => "context",
            Self::Unknown => "unknown",
        }
    }
}

/// The part of a chunk that varies within an answer. `loggia-api` adds the rest of a
/// `chat.completion.chunk` (id, model, fingerprint), so that no backend can get it wrong.
///
/// A backend may omit the role, and may send content and `finish_reason` together: `loggia-api`
/// adds and separates them. Every choice must end with a `finish_reason`; an answer without one
/// counts as failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The time when the answer began, as Unix time in seconds, if the engine reports it. Only the
    /// first chunk's value is used.
    pub created: Option<u64>,
    /// The tokens of the prompt, if the engine reports them before the end. Only the first chunk's
    /// value is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptUsage>,
    /// The new parts of the choices.
    pub choices: Vec<ChunkChoice>,
    /// Fields of the engine beside `choices`.
    pub extra: Extra,
}

/// The number of tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptUsage {
    /// All tokens.
    pub tokens: u64,
    /// The tokens that the engine took from its cache.
    pub cached: u64,
}

impl Chunk {
    /// Creates a chunk with a piece of one choice.
    pub fn of(choice: ChunkChoice) -> Self {
        Self {
            choices: vec![choice],
            ..Self::default()
        }
    }
}

/// Returns `fp_` and ten hexadecimal digits that change if and only if one of `parts` (backend,
/// weights, engine version) changes.
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
