//! How an answer ended, and what is known of it by then: what logs, metrics and limits read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loggia_backend::{Event, ServedBy};
use loggia_wire::openai::CompletionUsage;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was given to its end.
    Complete,
    /// It went wrong, and the client was told.
    Failed,
    /// The client left before its end.
    Abandoned,
}

/// How an answer ended, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// The tokens it cost, as far as known by then.
    pub usage: Option<CompletionUsage>,
    /// When the first piece of the answer came from the engine; of an answer in one piece, when it
    /// was there.
    pub first_token_at: Option<Instant>,
    /// Who gave it, once an engine had accepted.
    pub served_by: Option<ServedBy>,
    /// The model, by the name that the client asked for.
    pub model: Option<Arc<str>>,
    /// How long the request waited until an engine accepted it: for a place in a queue, for the
    /// model to be loaded.
    pub waited: Option<Duration>,
}

impl Ended {
    /// An answer that ended so, of which nothing else is known.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            usage: None,
            first_token_at: None,
            served_by: None,
            model: None,
            waited: None,
        }
    }
}

/// What becomes known of an answer on its way, for its [`Ended`].
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    arrived: Instant,
    ended: Ended,
}

impl Progress {
    /// Of a request that asks this model, and has arrived just now.
    pub(crate) fn new(model: &str) -> Self {
        let mut ended = Ended::new(Outcome::Abandoned);
        ended.model = Some(model.into());
        Self {
            arrived: Instant::now(),
            ended,
        }
    }

    /// An engine has accepted the request.
    pub(crate) fn accepted(&mut self, served_by: &ServedBy) {
        self.ended.waited = Some(self.arrived.elapsed());
        self.ended.served_by = Some(served_by.clone());
    }

    /// Notes what an event of the answer tells.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Chunk(_) if self.ended.first_token_at.is_none() => self.has_begun(),
            Event::Usage(usage) => self.ended.usage = Some(usage.clone()),
            _ => {}
        }
    }

    /// The first piece of the answer is there.
    pub(crate) fn has_begun(&mut self) {
        self.ended.first_token_at = Some(Instant::now());
    }

    /// What it cost.
    pub(crate) fn cost(&mut self, usage: CompletionUsage) {
        self.ended.usage = Some(usage);
    }

    /// The answer has ended so.
    pub(crate) fn end(&self, outcome: Outcome) -> Ended {
        Ended {
            outcome,
            ..self.ended.clone()
        }
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
