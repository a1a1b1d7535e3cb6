//! [`Ended`]: how an answer ended, for logs, metrics and limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loggia_backend::{Event, PromptUsage, ServedBy};
use loggia_wire::openai::CompletionUsage;

use crate::ApiError;
use crate::answer::running::Running;
use crate::door::meter::Meters;

/// The outcome of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The answer is complete.
    Complete,
    /// The answer failed, and the client received an error.
    Failed,
    /// The client left before the end.
    Abandoned,
}

/// How an answer ended, and its known properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The outcome.
    pub outcome: Outcome,
    /// The number of tokens used, as far as known. Of an answer that did not reach its end, each
    /// piece counts as one token.
    pub usage: Option<CompletionUsage>,
    /// When the first piece arrived from the engine, or the complete answer if it was not streamed.
    pub first_token_at: Option<Instant>,
    /// The backend and model that answered. `None` if no engine accepted the request.
    pub served_by: Option<ServedBy>,
    /// The model name that the client sent.
    pub model: Option<Arc<str>>,
    /// How long the request waited until an engine accepted it: in a queue, or for the model to be
    /// loaded.
    pub waited: Option<Duration>,
    /// The code of the error that the client received, or its type if it has no code.
    pub error: Option<Arc<str>>,
    /// Whether work goes on in the background after this answer. It has an account of its own: see
    /// [`BackgroundListener`](crate::BackgroundListener).
    pub goes_on: bool,
}

impl Ended {
    /// Creates the value for an answer that is this error.
    pub(crate) fn with_error(error: &ApiError) -> Self {
        Self {
            error: Some(error.label().into()),
            ..Self::new(Outcome::Failed)
        }
    }

    /// Creates the value for an outcome without further properties.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            usage: None,
            first_token_at: None,
            served_by: None,
            model: None,
            waited: None,
            error: None,
            goes_on: false,
        }
    }

    /// Returns the value with [`goes_on`](Self::goes_on).
    pub(crate) fn going_on(self, goes_on: bool) -> Self {
        Self { goes_on, ..self }
    }
}

/// Collects the properties of an answer for its [`Ended`].
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    arrived: Instant,
    /// Boxed, because it moves with the request through every step.
    noted: Box<Noted>,
}

#[derive(Clone, Debug)]
struct Noted {
    ended: Ended,
    /// The number of pieces of the answer so far.
    pieces: u64,
    /// The tokens of the prompt, if the engine reported them before the end.
    prompt: PromptUsage,
    /// The reservations of the request in the limits of its caller. Dropping them settles them with
    /// the real usage.
    meters: Meters,
    /// The entry in which the server shows the running request.
    running: Option<Arc<Running>>,
}

impl Progress {
    /// Starts with a request for this model that has just arrived.
    pub(crate) fn new(model: &str) -> Self {
        Self::of(Some(model.into()))
    }

    /// Starts with a request that has just arrived, and names a model or none.
    pub(crate) fn of(model: Option<Arc<str>>) -> Self {
        let mut ended = Ended::new(Outcome::Abandoned);
        ended.model = model;
        Self {
            arrived: Instant::now(),
            noted: Box::new(Noted {
                ended,
                pieces: 0,
                prompt: PromptUsage::default(),
                meters: Meters::default(),
                running: None,
            }),
        }
    }

    /// Makes the state of the request readable for a server that shows running requests.
    #[must_use]
    pub(crate) fn shown_in(mut self, running: Option<Arc<Running>>) -> Self {
        if let (Some(running), Some(model)) = (&running, &self.noted.ended.model) {
            running.asks(model);
        }
        self.noted.running = running;
        self
    }

    /// Keeps the reservations of the request until the end of its answer.
    pub(crate) fn hold(&mut self, meters: Meters) {
        self.noted.meters = meters;
    }

    /// Records that an engine has accepted the request.
    pub(crate) fn accepted(&mut self, served_by: &ServedBy) {
        self.noted.ended.waited = Some(self.arrived.elapsed());
        self.noted.ended.served_by = Some(served_by.clone());
        if let Some(running) = &self.noted.running {
            running.accepted(served_by);
        }
        if let Some(meters) = self.noted.meters.get() {
            meters.accepted();
        }
    }

    /// Records the properties of an event.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Some(meters) = self.noted.meters.get() {
            match event {
                Event::Chunk(_) => meters.piece(),
                Event::Usage(usage) => meters.used(usage),
                _ => {}
            }
        }
        if let Some(running) = &self.noted.running {
            running.note(event);
        }
        match event {
            Event::Chunk(chunk) => {
                self.noted.pieces += 1;
                if self.noted.ended.first_token_at.is_none() {
                    self.noted.prompt = chunk.prompt.unwrap_or_default();
                    self.has_begun();
                }
            }
            Event::Usage(usage) => self.noted.ended.usage = Some(usage.clone()),
            _ => {}
        }
    }

    /// Records a piece of an answer that is passed on as it arrives.
    pub(crate) fn piece(&mut self) {
        if let Some(meters) = self.noted.meters.get() {
            meters.piece();
        }
        if self.noted.ended.first_token_at.is_none() {
            self.has_begun();
        }
    }

    /// Records that the first piece of the answer has arrived.
    pub(crate) fn has_begun(&mut self) {
        self.noted.ended.first_token_at = Some(Instant::now());
    }

    /// Records the usage.
    pub(crate) fn cost(&mut self, usage: CompletionUsage) {
        if let Some(meters) = self.noted.meters.get() {
            meters.used(&usage);
        }
        if let Some(running) = &self.noted.running {
            running.cost(&usage);
        }
        self.noted.ended.usage = Some(usage);
    }

    /// Returns the model name that the client sent.
    pub(crate) fn model(&self) -> Option<Arc<str>> {
        self.noted.ended.model.clone()
    }

    /// Returns the [`Ended`] of an answer that ends with this error.
    pub(crate) fn fail(&self, error: &ApiError) -> Box<Ended> {
        let mut ended = self.end(Outcome::Failed);
        ended.error = Some(error.label().into());
        ended
    }

    /// Returns the [`Ended`] with this outcome.
    pub(crate) fn end(&self, outcome: Outcome) -> Box<Ended> {
        let mut ended = Box::new(self.noted.ended.clone());
        ended.outcome = outcome;
        if outcome != Outcome::Complete && ended.usage.is_none() {
            ended.usage = self.usage_so_far();
        }
        ended
    }

    /// Returns the usage of an answer whose engine has not reported it.
    fn usage_so_far(&self) -> Option<CompletionUsage> {
        let Noted { pieces, prompt, .. } = *self.noted;
        (pieces > 0).then(|| {
            let mut usage = CompletionUsage::new(prompt.tokens, pieces);
            let details = usage.prompt_tokens_details.get_or_insert_default();
            details.cached_tokens = prompt.cached;
            usage
        })
    }

    /// Returns when the request arrived.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::{Chunk, EarlyEnd, Waiting};

    use super::*;

    #[test]
    fn what_becomes_known_of_an_answer_is_there_at_its_end() {
        let mut progress = Progress::new("m");
        let ended = progress.end(Outcome::Failed);
        assert_eq!(
            (ended.outcome, ended.model.as_deref()),
            (Outcome::Failed, Some("m"))
        );
        assert_eq!((ended.first_token_at, ended.waited), (None, None));

        let served_by = ServedBy {
            backend: "b".into(),
            model: "m".into(),
            node: None,
            fingerprint: "fp_0".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        progress.accepted(&served_by);
        progress.note(&Event::Waiting(Waiting::Queued));
        progress.note(&Event::EndedEarly(EarlyEnd::Unknown));
        assert_eq!(progress.end(Outcome::Complete).first_token_at, None);
        progress.note(&Event::Chunk(Chunk::default()));
        let first = progress.end(Outcome::Complete).first_token_at;
        assert!(first.is_some());
        progress.note(&Event::Chunk(Chunk::default()));
        progress.note(&Event::Usage(CompletionUsage::new(3, 4)));
        let ended = progress.end(Outcome::Complete);
        assert_eq!(ended.first_token_at, first);
        assert_eq!(ended.usage, Some(CompletionUsage::new(3, 4)));
        assert_eq!(ended.served_by, Some(served_by));
        assert!(ended.waited.is_some());
    }
}
