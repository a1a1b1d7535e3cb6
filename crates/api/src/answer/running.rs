//! [`Running`]: the state of a request while its answer is made, for a server that shows running
//! requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::request::Parts;
use loggia_backend::{Event, ServedBy};
use loggia_wire::openai::CompletionUsage;

/// The usage is not known.
const UNKNOWN: u64 = u64::MAX;

/// The state of a request while its answer is made: an extension of the request (in an `Arc`),
/// which a server adds if it shows running requests. It has no text of the client or of the model.
#[derive(Debug)]
pub struct Running {
    model: OnceLock<Arc<str>>,
    served_by: OnceLock<RunsAt>,
    first_piece: OnceLock<Instant>,
    pieces: AtomicU64,
    tokens: AtomicU64,
    prompt_tokens: AtomicU64,
}

/// The engine that works on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunsAt {
    /// The name of the backend.
    pub backend: Arc<str>,
    /// The machine, if the backend has several.
    pub node: Option<Arc<str>>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            model: OnceLock::new(),
            served_by: OnceLock::new(),
            first_piece: OnceLock::new(),
            pieces: AtomicU64::new(0),
            tokens: AtomicU64::new(UNKNOWN),
            prompt_tokens: AtomicU64::new(UNKNOWN),
        }
    }
}

impl Running {
    /// Returns the state of a request, if the server shows running requests.
    pub(crate) fn of(parts: &Parts) -> Option<Arc<Self>> {
        parts.extensions.get::<Arc<Self>>().cloned()
    }

    /// Returns the model name that the client sent, once the request has been read.
    pub fn model(&self) -> Option<&Arc<str>> {
        self.model.get()
    }

    /// Returns the engine that has accepted the request, if one has.
    pub fn runs_at(&self) -> Option<&RunsAt> {
        self.served_by.get()
    }

    /// Returns when the first piece of the answer came from the engine.
    pub fn first_piece(&self) -> Option<Instant> {
        self.first_piece.get().copied()
    }

    /// Returns the tokens of the answer so far. Until the engine reports them, each piece of the
    /// answer counts as one.
    pub fn tokens(&self) -> u64 {
        match self.tokens.load(Ordering::Relaxed) {
            UNKNOWN => self.pieces.load(Ordering::Relaxed),
            tokens => tokens,
        }
    }

    /// Returns the tokens of the prompt, if the engine has reported them.
    pub fn prompt_tokens(&self) -> Option<u64> {
        let tokens = self.prompt_tokens.load(Ordering::Relaxed);
        (tokens != UNKNOWN).then_some(tokens)
    }

    pub(crate) fn asks(&self, model: &Arc<str>) {
        let _ = self.model.set(Arc::clone(model));
    }

    pub(crate) fn accepted(&self, served_by: &ServedBy) {
        let _ = self.served_by.set(RunsAt {
            backend: Arc::clone(&served_by.backend),
            node: served_by.node.clone(),
        });
    }

    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Chunk(_) => {
                self.pieces.fetch_add(1, Ordering::Relaxed);
                self.first_piece.get_or_init(Instant::now);
            }
            Event::Usage(usage) => self.cost(usage),
            _ => {}
        }
    }

    pub(crate) fn cost(&self, usage: &CompletionUsage) {
        self.tokens
            .store(usage.completion_tokens, Ordering::Relaxed);
        self.prompt_tokens
            .store(usage.prompt_tokens, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::Chunk;

    use super::*;

    #[test]
    fn pieces_count_as_tokens_until_the_engine_reports_its_own_count() {
        let running = Running::default();
        assert_eq!((running.tokens(), running.prompt_tokens()), (0, None));
        assert_eq!(running.first_piece(), None);
        running.asks(&"m".into());
        running.accepted(&ServedBy::new("b", "m"));
        for _ in 0..3 {
            running.note(&Event::Chunk(Chunk::default()));
        }
        assert_eq!(running.tokens(), 3);
        assert!(running.first_piece().is_some());
        running.note(&Event::Usage(CompletionUsage::new(7, 5)));
        assert_eq!((running.tokens(), running.prompt_tokens()), (5, Some(7)));
        let at = running.runs_at().map(|at| (&*at.backend, at.node.clone()));
        assert_eq!(
            (running.model().map(|model| &**model), at),
            (Some("m"), Some(("b", None)))
        );
    }
}
