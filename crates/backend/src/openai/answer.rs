//! Turns an engine's stream, event by event, into what the door expects. No I/O and no clock.

use std::sync::Arc;

use loggia_wire::Extra;
use loggia_wire::frame::sse;
use loggia_wire::openai::{ChunkChoice, CompletionUsage, FinishReason};
use serde_json::Value;

use super::frame::{Frame, Kind};
use super::{mend, refusal};
use crate::tool_calls::regular::ToolCalls;
use crate::{BackendError, Chunk};

/// One answer, on its way.
#[derive(Debug)]
pub(super) struct Answer {
    backend: Arc<str>,
    model: Arc<str>,
    kind: Kind,
    /// How far each of the choices that were asked for has come.
    choices: Vec<Progress>,
    calls: ToolCalls,
    usage: Option<CompletionUsage>,
    system_fingerprint: Option<String>,
    done: bool,
}

/// How far a choice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Begun,
    Finished,
}

impl Answer {
    /// The answer with this id, of so many choices.
    pub(super) fn new(
        id: &str,
        backend: Arc<str>,
        model: Arc<str>,
        kind: Kind,
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

    /// Feeds the next event; gives back the chunk it stands for, where it stands for one.
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
            // What is broken behind the end of every choice takes nothing from the answer.
            Err(_) if self.is_whole() => return Ok(None),
            Err(what) => return Err(self.bad(what)),
        };
        if frame.choices.is_none() && frame.extra.contains_key("message") {
            // An older vLLM's errors have no `error`, but `"object": "error"`.
            frame.error = Some(Value::Object(std::mem::take(&mut frame.extra)));
        }
        if let Some(error) = &frame.error {
            return Err(refusal::instead(error, &self.model, &self.backend));
        }
        self.chunk(frame)
    }

    fn chunk(&mut self, frame: Frame) -> Result<Option<Chunk>, BackendError> {
        if frame.usage.is_some() {
            // Some send a running count with every frame (vLLM's `continuous_usage_stats`): the
            // last is the whole.
            self.usage = frame.usage;
        }
        if self.system_fingerprint.is_none() {
            self.system_fingerprint = frame.system_fingerprint;
        }
        let mut choices = frame.choices.unwrap_or_default();
        for choice in &mut choices {
            if let Some(usage) = mend::usage_within(choice) {
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
            choices,
            extra: frame.extra,
        }))
    }

    /// Keeps count of how far a choice has come. Tells whether this piece of it says anything that
    /// was not said before.
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

    /// `[DONE]` ends each choice that has begun, where the engine gave no reason of its own.
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
        self.done
            || self
                .choices
                .iter()
                .all(|progress| *progress == Progress::Finished)
    }

    /// The stream has ended: what it cost, where the engine told. It was cut short if neither
    /// `[DONE]` came nor every choice's end.
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
