//! The worker for batches: takes the batch that has waited longest, and sends its requests while few
//! clients are being answered.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request as HttpRequest;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, sleep};

use super::input::Request;
use super::output::{Done, made, not_made};
use super::run::{HELD_FOR, Run, Stop};
use super::{schedule, stored};
use crate::answer::id;
use crate::store::{Change, Claimed, Kind, Owner};
use crate::stored::files::Files;
use crate::{Caller, Door, RequestId};

/// The interval between two searches for a batch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a batch rests after a failure of the store.
const REST: Duration = Duration::from_secs(5);

/// How long lines wait for requests of clients, before one is started nevertheless: a server that is
/// never idle makes one line after the other.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a request is repeated after an error of the server that may pass, and the waits before
/// the first repetition and at most. An engine that is busy or away is waited for.
const REPEATED: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
}

/// Works on batches.
pub(super) struct Worker {
    door: Door,
    files: Files,
    work: BatchWork,
    /// When a line was started last.
    started: Mutex<Instant>,
    pub(super) pauses: Pauses,
}

/// Counts the requests that wait before they are repeated.
#[derive(Default)]
pub(super) struct Pauses(AtomicUsize);

impl Pauses {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    async fn pause(&self, time: Duration) {
        /// Counts down also if the request is dropped.
        struct Pause<'p>(&'p AtomicUsize);
        impl Drop for Pause<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let _pause = Pause(&self.0);
        sleep(time).await;
    }
}

impl Door {
    /// Works on batches, for ever. It should run on a runtime that outlives the threads that answer
    /// requests. What was done is stored line by line, so it may be dropped at any time.
    pub async fn work_on_batches(self, work: BatchWork) {
        let Some(files) = self.files_of(Owner::NOBODY) else {
            return;
        };
        let worker = Worker {
            door: self,
            files,
            work,
            started: Mutex::new(Instant::now()),
            pauses: Pauses::default(),
        };
        let holder = id::item("batches_");
        let mut works = true;
        loop {
            let claimed = worker
                .files
                .store
                .claim(Kind::Batch, &holder, HELD_FOR)
                .await;
            if let Err(error) = &claimed
                && works
            {
                tracing::warn!(%error, "batches cannot be looked for");
            }
            works = claimed.is_ok();
            match claimed {
                Ok(Some(claimed)) => worker.turn(claimed, &holder).await,
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(_) => sleep(REST).await,
            }
        }
    }
}

impl Worker {
    /// Works on a batch for a while.
    async fn turn(&self, Claimed { owner, object }: Claimed, holder: &str) {
        let id = object.id.clone();
        let caller = owner.key().map(|name| (self.work.caller)(name));
        let files = self.files.of(owner);
        let Ok(stored) = stored(&object) else {
            tracing::warn!(id, "a batch cannot be read");
            return;
        };
        if stored.has_ended() {
            // It was kept long enough.
            let _ = files.store.delete(files.at(Kind::Batch, &id)).await;
            return;
        }
        let owner = files.owner.clone();
        let mut run = Run {
            worker: self,
            files,
            has_key: caller.as_ref().is_none_or(Option::is_some),
            caller: caller.flatten(),
            holder,
            stored,
            renewed: Instant::now(),
        };
        let rest = match run.turn().await {
            Ok(()) => None,
            Err(Stop::Turn) => Some(Duration::ZERO),
            Err(Stop::Lost) => return,
            Err(Stop::Failed(error)) => {
                tracing::warn!(id, %error, "a batch could not be continued");
                sleep(REST).await;
                Some(REST)
            }
        };
        let mut changes = vec![Change::Release {
            kind: Kind::Batch,
            id: id.clone(),
            holder: Some(holder.to_owned()),
        }];
        // Other batches have waited longer.
        changes.extend(rest.map(|rest| schedule(&id, id::now() + rest.as_secs())));
        if let Err(error) = self.files.store.write(&owner, changes).await {
            // The hold runs out.
            tracing::debug!(id, %error, "a batch could not be released");
        }
    }

    /// Makes the request of a line.
    pub(super) async fn make(
        &self,
        number: u64,
        request: Request,
        endpoint: String,
        caller: Option<Caller>,
    ) -> Done {
        let (door, pauses) = (&self.door, &self.pauses);
        let made = door.make_line(number, request, &endpoint, caller, pauses);
        made.await
    }

    pub(super) fn parallel(&self) -> usize {
        self.work.parallel.max(1)
    }

    pub(super) fn longest_line(&self) -> usize {
        self.door.policy.body_limit
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

impl Door {
    /// Sends the request of a line through `Door::serve`. It passes no layer of the server, so it is
    /// not in the access log.
    pub(super) async fn make_line(
        &self,
        number: u64,
        request: Request,
        endpoint: &str,
        caller: Option<Caller>,
        pauses: &Pauses,
    ) -> Done {
        let (mut tries, mut pause) = (0, FIRST_WAIT);
        loop {
            let request_id = id::item("req_");
            let asked = self.ask_line(&request, endpoint, caller.clone(), &request_id);
            let Ok((status, wait, body)) = AssertUnwindSafe(asked).catch_unwind().await else {
                let message = "The server had an error while processing your request.";
                return not_made(number, Some(&request.custom_id), "server_error", message);
            };
            let waits = matches!(status, 429 | 503);
            tries += 1;
            if !waits && (status < 500 && status != 408 || tries > REPEATED) {
                let body = String::from_utf8_lossy(&body);
                return made(number, &request.custom_id, &request_id, status, &body);
            }
            let wait = wait.unwrap_or(pause).min(LONGEST_PAUSE);
            pauses.pause(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns the status of the answer, the wait that it asks for, and its body.
    async fn ask_line(
        &self,
        request: &Request,
        endpoint: &str,
        caller: Option<Caller>,
        request_id: &str,
    ) -> (u16, Option<Duration>, Bytes) {
        let mut asked = HttpRequest::new(Full::new(request.body.clone()));
        *asked.method_mut() = http::Method::POST;
        if let Ok(uri) = endpoint.parse() {
            *asked.uri_mut() = uri;
        }
        let json = http::HeaderValue::from_static("application/json");
        asked.headers_mut().insert(CONTENT_TYPE, json);
        asked.extensions_mut().insert(RequestId(request_id.into()));
        if let Some(caller) = caller {
            asked.extensions_mut().insert(caller);
        }
        let answer = self.serve(asked).await;
        let status = answer.status().as_u16();
        let wait = answer.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
        let body = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        (status, wait.map(Duration::from_secs), body)
    }
}
