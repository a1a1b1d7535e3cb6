//! [`Worker`]: how many lines of batches are made at once, and when clients come first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::finished_line::FinishedLine;
use super::input::Request;
use super::send::{AnswerLine, Pauses, make_line};
use crate::stored::files::Files;
use crate::{Caller, Door};

/// How long lines wait for requests of clients, before one is started nevertheless: a server that is
/// never idle makes one line after the other.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Returns the caller with an API key of a name.
pub type FindCaller = Arc<dyn Fn(&str) -> Option<Caller> + Send + Sync>;

/// How batches are worked on.
#[derive(Clone)]
pub struct BatchWork {
    /// How many requests of batches are made at once.
    pub parallel: usize,
    /// How many requests of clients make those of batches wait.
    pub clients: usize,
    /// Returns how many requests of clients are running.
    pub running: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Returns the caller with an API key of this name. A batch is made with the rights of the key
    /// that created it.
    pub caller: FindCaller,
    /// Answers the request of a line.
    pub answer: AnswerLine,
}

/// Works on batches.
pub(super) struct Worker {
    door: Door,
    pub(super) files: Files,
    pub(super) work: BatchWork,
    /// When a line was started last.
    started: Mutex<Instant>,
    pub(super) pauses: Pauses,
}

impl Worker {
    pub(super) fn new(door: Door, files: Files, work: BatchWork) -> Self {
        Self {
            door,
            files,
            work,
            started: Mutex::new(Instant::now()),
            pauses: Pauses::default(),
        }
    }

    /// Makes the request of a line.
    pub(super) async fn make(
        &self,
        number: u64,
        request: Request,
        endpoint: String,
        caller: Option<Caller>,
    ) -> FinishedLine {
        let answer = &self.work.answer;
        make_line(answer, number, request, &endpoint, caller, &self.pauses).await
    }

    pub(super) fn parallel(&self) -> usize {
        self.work.parallel.max(1)
    }

    pub(super) fn longest_line(&self) -> usize {
        self.door.current().policy.body_limit
    }

    /// Whether a line may be started now. If so, it counts as started.
    pub(super) fn may_start(&self) -> bool {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if self.clients_wait() && started.elapsed() < LONGEST_WAIT {
            return false;
        }
        *started = Instant::now();
        true
    }

    /// Whether so many requests of clients are running that those of batches have to wait.
    pub(super) fn clients_wait(&self) -> bool {
        (self.work.running)() >= self.work.clients.max(1)
    }
}
