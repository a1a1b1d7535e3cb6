//! Turns an engine's stream, event by event, into the chunks that `loggia-api` expects. No I/O and
//! no clock.

use std::sync::Arc;

use loggia_wire::Extra;
use loggia_wire::frame::sse;
use loggia_wire::openai::{ChunkChoice, CompletionUsage, FinishReason};
use serde_json::Value;

use super::frame::{Frame, RequestKind};
use super::{refusal, repair};
use crate::tool_calls::regular::ToolCalls;
use crate::{BackendError, Chunk};

/// The state of one answer.
#[derive(Debug)]
pub(super) struct StreamedAnswer {
    backend: Arc<str>,
    model: Arc<str>,
    kind: RequestKind,
    /// The progress of each requested choice.
    choices: Vec<Progress>,
    calls: ToolCalls,
    usage: Option<CompletionUsage>,
    system_fingerprint: Option<String>,
    done: bool,
}

/// The progress of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Begun,
    Finished,
}

impl StreamedAnswer {
    /// Creates the state for an answer with this id and this number of choices.
    pub(super) fn new(
        id: &str,
        backend: Arc<str>,
        model: Arc<str>,
        kind: RequestKind,
        choices: usize,
    ) -> Self {
        let calls = ToolCalls::new(id, choices);
        let choices = vec![Progress::Waiting; choices];
        Self {
            backend,
            model,
            kind,
            choices,
            calls,
            usage: None,
            system_fingerprint: None,
            done: false,
        }
    }

    /// Adds the next event. Returns its chunk, if it has one.
    pub(super) fn push(&mut self, event: &sse::Event) -> Result<Option<Chunk>, BackendError> {
        if self.done || event.data.is_empty() {
            return Ok(None);
        }
        if event.data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return self.missing_ends();
        }
        if event.name.as_deref() == Some("error") {
            return Err(refusal::instead_unread(
                &event.data,
                &self.model,
                &self.backend,
            ));
        }
        let mut frame = match Frame::read(&event.data, self.kind) {
            Ok(frame) => frame,
            // Invalid data after the end of every choice does not affect the answer.
            Err(_) if self.is_whole() => return Ok(None),
            Err(what) => return Err(self.bad(what)),
        };
        if frame.choices.is_none() && frame.extra.contains_key("message") {
            // Older versions of vLLM send errors without `error`, but with `"object": "error"`.
            frame.error = Some(Value::Object(std::mem::take(&mut frame.extra)));
        }
        if let Some(error) = &frame.error {
            return Err(refusal::instead(error, &self.model, &self.backend));
        }
        self.chunk(frame)
    }

    fn chunk(&mut self, frame: Frame) -> Result<Option<Chunk>, BackendError> {
        if frame.usage.is_some() {
            // Some engines send a running total with every frame (vLLM's `continuous_usage_stats`).
            // The last one is final.
            self.usage = frame.usage;
        }
        if self.system_fingerprint.is_none() {
            self.system_fingerprint = frame.system_fingerprint;
        }
        let mut choices = frame.choices.unwrap_or_default();
        for choice in &mut choices {
            if let Some(usage) = repair::usage_within(choice) {
                self.usage = Some(usage);
            }
            self.calls
                .piece(choice)
                .map_err(|what| bad(&self.backend, what))?;
        }
        choices.retain(|choice| self.is_new(choice, &frame.extra));
        let says_something = !choices.is_empty() || !frame.extra.is_empty();
        Ok(says_something.then_some(Chunk {
            created: frame.created,
            prompt: None,
            choices,
            extra: frame.extra,
        }))
    }

    /// Updates the progress of a choice. Returns whether this piece contains anything new.
    fn is_new(&mut self, choice: &ChunkChoice, beside: &Extra) -> bool {
        let Some(progress) = usize::try_from(choice.index)
            .ok()
            .and_then(|index| self.choices.get_mut(index))
        else {
            return false;
        };
        let before = *progress;
        if before == Progress::Finished {
            return false;
        }
        *progress = if choice.finish_reason.is_some() {
            Progress::Finished
        } else {
            Progress::Begun
        };
        let is_empty =
            choice.delta.is_empty() && choice.logprobs.is_none() && choice.extra.is_empty();
        !is_empty
            || choice.finish_reason.is_some()
            || before == Progress::Waiting
            || !beside.is_empty()
    }

    /// `[DONE]` ends each choice that has begun and has no finish reason from the engine.
    fn missing_ends(&mut self) -> Result<Option<Chunk>, BackendError> {
        let mut choices = Vec::new();
        for (index, progress) in (0..).zip(&mut self.choices) {
            if *progress == Progress::Begun {
                *progress = Progress::Finished;
                let reason = self
                    .calls
                    .end(index, FinishReason::Stop)
                    .map_err(|what| bad(&self.backend, what))?;
                choices.push(ChunkChoice::finish(index, reason));
            }
        }
        Ok((!choices.is_empty()).then(|| Chunk {
            choices,
            ..Chunk::default()
        }))
    }

    /// Returns the engine's own fingerprint, known from the first chunk on.
    pub(super) fn system_fingerprint(&self) -> Option<&str> {
        self.system_fingerprint.as_deref()
    }

    /// Returns whether the engine has sent `[DONE]`.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Returns whether the answer is complete, so that a broken connection does no harm.
    pub(super) fn is_whole(&self) -> bool {
        self.done
            || self
                .choices
                .iter()
                .all(|progress| *progress == Progress::Finished)
    }

    /// Handles the end of the stream. Returns the usage, if the engine sent it. Fails if neither
    /// `[DONE]` nor the end of every choice has arrived.
    pub(super) fn finish(&mut self) -> Result<Option<CompletionUsage>, BackendError> {
        if self.is_whole() {
            Ok(self.usage.take())
        } else {
            Err(BackendError::CutShort {
                backend: self.backend.to_string(),
            })
        }
    }

    fn bad(&self, what: &str) -> BackendError {
        bad(&self.backend, what)
    }
}

fn bad(backend: &str, what: &str) -> BackendError {
    BackendError::BadAnswer {
        backend: backend.to_owned(),
        what: what.to_owned(),
    }
}
