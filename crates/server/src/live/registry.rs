//! [`Registry`]: the requests that run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use loggia_api::{RequestId, Running};
use serde::Serialize;

use super::{Live, milliseconds, short};
use crate::account::closed::Closed;

/// The parts of the registry, each with a lock of its own.
const SHARDS: usize = 16;

/// The requests that run.
#[derive(Default)]
pub(super) struct Registry {
    shards: [Mutex<HashMap<u64, Entry>>; SHARDS],
    opened: AtomicU64,
    /// The tokens of the answers that are no longer in the registry.
    ended_tokens: AtomicU64,
}

/// A request that runs.
struct Entry {
    id: Option<RequestId>,
    key: Option<Arc<str>>,
    route: &'static str,
    opened: Instant,
    is_of_batch: bool,
    is_stream: Arc<AtomicBool>,
    /// Whether the client has the whole answer. Background work for the request may still go on.
    is_closed: bool,
    running: Arc<Running>,
}

/// A request in the registry, for its account.
pub(crate) struct Shown {
    live: Live,
    number: u64,
    route: &'static str,
    is_stream: Arc<AtomicBool>,
}

/// A running request as the admin API shows it.
#[derive(Debug, Serialize)]
pub(super) struct RunningRequest {
    id: Option<Arc<str>>,
    key: Option<Arc<str>>,
    route: &'static str,
    model: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    node: Option<Arc<str>>,
    stream: bool,
    batch: bool,
    background: bool,
    phase: &'static str,
    ms: u64,
    first_token_ms: Option<u64>,
    prompt_tokens: Option<u64>,
    tokens: u64,
}

impl Live {
    /// Adds a request. The door fills the returned [`Running`].
    pub(crate) fn open(
        &self,
        id: Option<RequestId>,
        key: Option<Arc<str>>,
        route: &'static str,
        is_of_batch: bool,
    ) -> (Shown, Arc<Running>) {
        let registry = &self.0.registry;
        let number = registry.opened.fetch_add(1, Ordering::Relaxed);
        let running = Arc::<Running>::default();
        let is_stream = Arc::<AtomicBool>::default();
        let entry = Entry {
            id,
            key,
            route,
            opened: Instant::now(),
            is_of_batch,
            is_stream: Arc::clone(&is_stream),
            is_closed: false,
            running: Arc::clone(&running),
        };
        registry.shard(number).insert(number, entry);
        let shown = Shown {
            live: self.clone(),
            number,
            route,
            is_stream,
        };
        (shown, running)
    }
}

impl Shown {
    /// Notes that the answer is a stream.
    pub(crate) fn streams(&self) {
        self.is_stream.store(true, Ordering::Relaxed);
    }

    /// Notes the end of the answer.
    pub(crate) fn close(&self, closed: &Closed<'_>) {
        self.live.0.registry.close(self.number);
        // What goes on in the background is shown when it has ended.
        if !closed.ended.goes_on {
            self.live.closed(closed, self.route);
        }
    }
}

impl Registry {
    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the number of shards"
        )]
        let shard = &self.shards[(number % SHARDS as u64) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a request whose answer has ended, unless something still works on it.
    fn close(&self, number: u64) {
        let mut shard = self.shard(number);
        if let Some(entry) = shard.get_mut(&number) {
            entry.is_closed = true;
            if entry.is_over() {
                self.end(entry);
                shard.remove(&number);
            }
        }
    }

    fn end(&self, entry: &Entry) {
        let tokens = entry.running.tokens();
        self.ended_tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Returns the tokens of all answers since the start, and the number of running requests.
    /// Removes those that have ended since.
    pub(super) fn count(&self) -> (u64, usize) {
        // First, so that no token counts twice.
        let mut tokens = self.ended_tokens.load(Ordering::Relaxed);
        let mut running = 0;
        for number in 0..SHARDS as u64 {
            self.shard(number).retain(|_, entry| {
                tokens += entry.running.tokens();
                let is_over = entry.is_over();
                if is_over {
                    self.end(entry);
                }
                running += usize::from(!is_over);
                !is_over
            });
        }
        (tokens, running)
    }

    /// Returns the running requests, the oldest first, at most `most`, and their total number.
    pub(super) fn shown(&self, most: usize) -> (Vec<RunningRequest>, usize) {
        let mut all = Vec::new();
        for number in 0..SHARDS as u64 {
            let shard = self.shard(number);
            let running = shard.iter().filter(|(_, entry)| !entry.is_over());
            all.extend(running.map(|(number, _)| *number));
        }
        let count = all.len();
        all.sort_unstable();
        all.truncate(most);
        let shown = all.iter().filter_map(|number| {
            let shard = self.shard(*number);
            shard.get(number).map(Entry::shown)
        });
        (shown.collect(), count)
    }
}

impl Entry {
    /// Whether the client has its answer and no background work is left.
    fn is_over(&self) -> bool {
        self.is_closed && Arc::strong_count(&self.running) == 1
    }

    fn shown(&self) -> RunningRequest {
        let running = &self.running;
        let at = running.runs_at();
        let first_piece = running.first_piece();
        let first_token =
            first_piece.map(|first| milliseconds(first.saturating_duration_since(self.opened)));
        RunningRequest {
            id: self.id.as_ref().map(|id| Arc::clone(&id.0)),
            key: self.key.clone(),
            route: self.route,
            model: running.model().map(short),
            backend: at.map(|at| Arc::clone(&at.backend)),
            node: at.and_then(|at| at.node.clone()),
            stream: self.is_stream.load(Ordering::Relaxed),
            batch: self.is_of_batch,
            background: self.is_closed,
            phase: match (at, first_piece) {
                (_, Some(_)) => "writing",
                (Some(_), None) => "reading",
                (None, None) => "waiting",
            },
            ms: milliseconds(self.opened.elapsed()),
            first_token_ms: first_token,
            prompt_tokens: running.prompt_tokens(),
            tokens: running.tokens(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use loggia_api::{Ended, Outcome};

    use super::*;

    fn close(shown: &Shown) {
        shown.close(&Closed {
            id: None,
            trace: None,
            key: None,
            method: &Method::POST,
            route: None,
            status: None,
            ended: &Ended::new(Outcome::Complete),
            opened: Instant::now(),
            took: std::time::Duration::ZERO,
            is_stream: false,
            is_http2: false,
            is_of_batch: false,
            background: None,
        });
    }

    #[test]
    fn a_request_runs_until_its_client_has_the_answer_and_nothing_works_on_it() {
        let live = Live::default();
        let registry = &live.0.registry;
        let (shown, running) = live.open(None, None, "/v1/responses", false);
        let (other, _) = live.open(None, None, "/v1/embeddings", false);
        assert_eq!(registry.shown(10).1, 2);
        assert_eq!(registry.shown(1).0.len(), 1);
        close(&other);
        close(&shown);
        let (requests, count) = registry.shown(10);
        assert!(count == 1 && requests[0].background, "{requests:?}");
        drop(running);
        assert_eq!(registry.shown(10).1, 0);
        assert_eq!(registry.count(), (0, 0));
        assert!(
            registry
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
    }
}
