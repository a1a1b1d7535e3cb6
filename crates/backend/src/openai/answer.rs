//! Turns an engine's stream, event by event, into what the door expects. No I/O and no clock.

use std::sync::Arc;

use loggia_wire::frame::sse;
use loggia_wire::openai::CompletionUsage;
use serde_json::Value;

use super::frame::{Frame, Kind};
use super::refusal;
use crate::{BackendError, Chunk};

/// One answer, on its way.
#[derive(Debug)]
pub(super) struct Answer {
    backend: Arc<str>,
    model: Arc<str>,
    kind: Kind,
    /// How many choices were asked for.
    choices: usize,
    /// Which of them have ended.
    finished: Vec<u32>,
    usage: Option<CompletionUsage>,
    system_fingerprint: Option<String>,
    done: bool,
}

impl Answer {
    /// An answer of so many choices.
    pub(super) fn new(backend: Arc<str>, model: Arc<str>, kind: Kind, choices: usize) -> Self {
        Self { backend, model, kind, choices, finished: Vec::new(), usage: None, system_fingerprint: None, done: false }
    }

    /// Feeds the next event; gives back the chunk it stands for, where it stands for one.
    pub(super) fn push(&mut self, event: &sse::Event) -> Result<Option<Chunk>, BackendError> {
        if self.done || event.data.is_empty() {
            return Ok(None);
        }
        if &*event.data == b"[DONE]" {
            self.done = true;
            return Ok(None);
        }
        if event.name.as_deref() == Some("error") {
            return Err(refusal::instead_unread(&event.data, &self.model, &self.backend));
        }
        let mut frame = Frame::read(&event.data, self.kind)
            .map_err(|what| BackendError::BadAnswer { backend: self.backend.to_string(), what: what.to_owned() })?;
        if frame.choices.is_none() && frame.extra.contains_key("message") {
            // An older vLLM's errors have no `error`, but `"object": "error"`.
            frame.error = Some(Value::Object(std::mem::take(&mut frame.extra)));
        }
        if let Some(error) = &frame.error {
            return Err(refusal::instead(error, &self.model, &self.backend));
        }
        Ok(self.chunk(frame))
    }

    fn chunk(&mut self, frame: Frame) -> Option<Chunk> {
        if frame.usage.is_some() {
            // Some send a running count with every frame (vLLM's `continuous_usage_stats`): the last is the whole.
            self.usage = frame.usage;
        }
        if self.system_fingerprint.is_none() {
            self.system_fingerprint = frame.system_fingerprint;
        }
        let choices = frame.choices.unwrap_or_default();
        for choice in &choices {
            if choice.finish_reason.is_some() && !self.finished.contains(&choice.index) {
                self.finished.push(choice.index);
            }
        }
        let says_something = !choices.is_empty() || !frame.extra.is_empty();
        says_something.then_some(Chunk { created: frame.created, choices, extra: frame.extra })
    }

    /// The engine's own fingerprint, known from the first chunk on.
    pub(super) fn system_fingerprint(&self) -> Option<&str> {
        self.system_fingerprint.as_deref()
    }

    /// Whether the engine has said that nothing follows.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether nothing is lost if nothing follows.
    pub(super) fn is_whole(&self) -> bool {
        self.done || self.finished.len() >= self.choices
    }

    /// The stream has ended: what it cost, where the engine told. It was cut short if neither `[DONE]` came nor every choice's end.
    pub(super) fn finish(&mut self) -> Result<Option<CompletionUsage>, BackendError> {
        if self.is_whole() {
            Ok(self.usage.take())
        } else {
            Err(BackendError::CutShort { backend: self.backend.to_string() })
        }
    }
}
