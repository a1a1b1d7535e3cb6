//! The queue of requests that wait for the engine, and the signal ("bell") that wakes it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::generation::Generation;
use super::output::OutputSender;
use crate::error::EngineError;

/// A waiting request.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) generation: Generation,
    pub(super) sender: OutputSender,
}

/// The queue that callers, readers and the engine's thread share.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
    /// The maximum number of waiting requests, not counting those that an idle slot can take.
    max_waiting: usize,
    parallel: usize,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    /// The number of idle slots, as last reported by the engine.
    idle: usize,
    /// Whether the bell has rung since the engine last looked.
    rung: bool,
    stopping: bool,
    stopped: bool,
    /// The average duration of recent requests.
    average_time: Duration,
}

impl Inbox {
    pub(super) fn new(max_waiting: usize, parallel: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            idle: parallel,
            rung: false,
            stopping: false,
            stopped: false,
            average_time: Duration::from_secs(2),
        };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
            max_waiting,
            parallel,
        }
    }

    /// Adds requests to the end of the queue: all of them or none.
    pub(super) fn submit(&self, jobs: Vec<Job>) -> Result<(), EngineError> {
        let mut state = self.lock();
        if state.stopping || state.stopped {
            return Err(EngineError::Stopped);
        }
        state.waiting.retain(|job| !job.sender.is_closed());
        let waiting = state.waiting.len();
        if waiting + jobs.len() > self.max_waiting + state.idle {
            let waiting = waiting.saturating_sub(state.idle);
            return Err(EngineError::Busy {
                waiting,
                retry_after: retry_after(waiting, self.parallel, state.average_time),
            });
        }
        state.waiting.extend(jobs);
        self.ring_with(state);
        Ok(())
    }

    /// Rings the bell: wakes the engine, because a reader has read something or has left.
    pub(super) fn ring(&self) {
        self.ring_with(self.lock());
    }

    fn ring_with(&self, mut state: MutexGuard<'_, State>) {
        state.rung = true;
        drop(state);
        self.bell.notify_one();
    }

    /// Tells the engine to stop.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.ring();
    }

    pub(super) fn has_stopped(&self) -> bool {
        let state = self.lock();
        state.stopping || state.stopped
    }

    /// Called by the engine. Returns up to `idle` requests whose readers are still connected, in
    /// order of arrival. Returns `None` when the engine has to stop.
    pub(super) fn take(&self, idle: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        if state.stopping {
            return None;
        }
        state.rung = false;
        state.waiting.retain(|job| !job.sender.is_closed());
        let now = idle.min(state.waiting.len());
        state.idle = idle - now;
        Some(state.waiting.drain(..now).collect())
    }

    /// Called by the engine. Waits until the bell rings.
    pub(super) fn wait(&self) {
        let state = self.lock();
        drop(
            self.bell
                .wait_while(state, |state| !state.rung && !state.stopping)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Called by the engine. Waits until the bell rings, but not for longer than this. Returns
    /// whether it has rung.
    pub(super) fn wait_for(&self, most: Duration) -> bool {
        let is_quiet = |state: &mut State| !state.rung && !state.stopping;
        let waited = self.bell.wait_timeout_while(self.lock(), most, is_quiet);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.rung || state.stopping
    }

    /// Called by the engine. Records the duration of a request.
    pub(super) fn record_time(&self, time: Duration) {
        let mut state = self.lock();
        state.average_time = (state.average_time * 7 + time) / 8;
    }

    /// Called when the engine's thread ends, also after a panic. Drops all waiting requests, so
    /// that their callers do not wait forever.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `Retry-After` time for a client that is refused because the queue is full: the estimated
/// duration of the requests before it.
fn retry_after(waiting: usize, parallel: usize, average_time: Duration) -> Duration {
    let rounds = u32::try_from(waiting / parallel.max(1) + 1).unwrap_or(u32::MAX);
    average_time
        .saturating_mul(rounds)
        .clamp(Duration::from_secs(1), Duration::from_mins(1))
}
