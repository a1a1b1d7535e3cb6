//! The work of the server now and in the last minutes, for the console: the running requests, the
//! last ones that ended, and figures for each second. It has no text of a client or of a model.
//!
//! `registry.rs` has the running requests, `seconds.rs` the figures, `histogram.rs` their times,
//! `routes.rs` the admin API, `backends.rs` its models and backends. All of it is in memory and limited.

pub(crate) mod backends;
mod histogram;
mod registry;
pub(crate) mod routes;
mod seconds;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::account::closed::{Closed, outcome_word};
use crate::clock::unix_seconds;
use registry::Registry;
pub(crate) use registry::Shown;
use seconds::{EndedOne, Seconds};

/// The number of ended requests that are kept.
const MOST_ENDED: usize = 100;

/// The longest name of a model that is kept: clients choose it.
const LONGEST_NAME: usize = 120;

/// Remembers what the server does. Clones share it.
#[derive(Clone, Default)]
pub struct Live(Arc<Shared>);

#[derive(Default)]
struct Shared {
    registry: Registry,
    recent: Mutex<Recent>,
}

/// The figures and the last ones of the requests that have ended.
#[derive(Default)]
struct Recent {
    seconds: Seconds,
    ended: VecDeque<EndedRequest>,
}

/// A request that has ended.
#[derive(Clone, Debug, Serialize)]
struct EndedRequest {
    id: Option<Arc<str>>,
    key: Option<Arc<str>>,
    route: &'static str,
    model: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    node: Option<Arc<str>>,
    stream: bool,
    batch: bool,
    background: bool,
    status: Option<u16>,
    outcome: &'static str,
    error: Option<Arc<str>>,
    /// When the request ended, in Unix seconds.
    ended_at: i64,
    ms: u64,
    first_token_ms: Option<u64>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// Prints no content, which is for the admin API only.
impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live(…)")
    }
}

impl Live {
    /// Adds the figures of each second. This never ends; without it, there are no figures.
    pub async fn keep(self) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            self.end_second(unix_seconds());
        }
    }

    /// Ends the second that runs.
    fn end_second(&self, now: i64) {
        let (tokens, running) = self.0.registry.count();
        self.recent().seconds.end(now, tokens, running);
    }

    /// Notes a request that has ended.
    pub(crate) fn closed(&self, closed: &Closed<'_>, route: &'static str) {
        let ended = closed.ended;
        let first_token = ended
            .first_token_at
            .filter(|_| closed.is_stream)
            .map(|at| at.saturating_duration_since(closed.opened));
        let usage = ended.usage.as_ref();
        let request = EndedRequest {
            id: closed.id.map(|id| Arc::clone(&id.0)),
            key: closed.key.map(Arc::from),
            route,
            model: ended.model.as_ref().map(short),
            backend: ended.served_by.as_ref().map(|by| Arc::clone(&by.backend)),
            node: ended.served_by.as_ref().and_then(|by| by.node.clone()),
            stream: closed.is_stream,
            batch: closed.is_of_batch,
            background: closed.background.is_some(),
            status: closed.status.map(|status| status.as_u16()),
            outcome: outcome_word(ended.outcome),
            error: ended.error.clone(),
            ended_at: unix_seconds(),
            ms: milliseconds(closed.took),
            first_token_ms: first_token.map(milliseconds),
            prompt_tokens: usage.map(|usage| usage.prompt_tokens),
            completion_tokens: usage.map(|usage| usage.completion_tokens),
        };
        let mut recent = self.recent();
        recent.seconds.add(EndedOne {
            outcome: ended.outcome,
            prompt_tokens: usage.map_or(0, |usage| usage.prompt_tokens),
            first_token,
            // No client waits for a line of a batch.
            took: (!closed.is_of_batch).then_some(closed.took),
        });
        if recent.ended.len() >= MOST_ENDED {
            recent.ended.pop_front();
        }
        recent.ended.push_back(request);
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the beginning of a name. Most names are short and stay shared.
fn short(name: &Arc<str>) -> Arc<str> {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => Arc::clone(name),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
