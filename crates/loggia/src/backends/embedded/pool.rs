//! Which models are loaded: on first use, as far as the memory goes, and not longer than they are
//! wanted.
//!
//! One lock holds what all models are doing, so that every decision sees them together. No process
//! is started or waited for under it. How a model leaves for good is in `delete.rs`.

mod delete;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Ability, Backend, BackendError};
use loggia_llama::Forecast;
use loggia_wire::openai::Model;
use tokio::runtime::Handle;
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;

use super::process::Opening;
use crate::config::KeepAlive;

/// A process that lived so long before it ended may be started again at once.
const LONG_ENOUGH: Duration = Duration::from_mins(1);

/// The longest wait between two tries at an engine that keeps ending.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// How long a request waits for room beside models that are always in use, before those get no new
/// requests until it has been had.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a model waits for its first use, however short it is to be kept.
const FIRST_USE: Duration = Duration::from_secs(10);

/// How long an engine may take to end when it is told to; then it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What starts engines: processes, or what a test has for them.
pub(super) trait Start: Send + Sync {
    /// Starts one, and waits until it has loaded its model; or says why it cannot.
    fn start(&self, opening: &Opening) -> BoxFuture<'static, Result<Started, String>>;
}

/// An engine that has loaded its model. It ends when its last call and `backend` are dropped.
pub(super) struct Started {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) known: Vec<(Model, Arc<Abilities>)>,
    /// How it ended, when it has.
    pub(super) exited: BoxFuture<'static, String>,
    /// Ends it at once.
    pub(super) kill: Arc<Notify>,
}

/// The models, and what each of them is doing.
pub(super) struct Pool {
    openings: Vec<Opening>,
    start: Arc<dyn Start>,
    /// Bytes that all loaded models may have together; no bound where nobody knows.
    memory: Option<u64>,
    keep_alive: KeepAlive,
    models: Mutex<Vec<Entry>>,
    /// Something changed that somebody may be waiting for.
    changed: Notify,
    /// Where engines are started: the program's own runtime, while requests come from those of the
    /// server's threads.
    runtime: SetOnce<Handle>,
}

/// One model.
struct Entry {
    state: State,
    /// Counts its processes, so that what is heard of an old one does not touch a new one.
    process: u64,
    forecast: Option<Forecast>,
    /// What it says of itself; kept when it is unloaded.
    known: Option<(Model, Arc<Abilities>)>,
    /// How often in a row its process has ended without being told to.
    deaths: u32,
    /// Requests that wait for it.
    waiters: usize,
    /// Since when one of them waits for room.
    hungry_since: Option<Instant>,
    /// Whether it is being deleted, or has been: it is not started, and no request gets it.
    leaving: bool,
}

enum State {
    Unloaded,
    Loading,
    Loaded(Loaded),
    /// Its process has been told to end.
    Unloading,
    /// It has been deleted: there is no such model any more.
    Deleted,
    /// Not tried again before `until`.
    Down {
        why: Why,
        until: Instant,
    },
}

/// Why a model is down.
enum Why {
    /// It could not be loaded. In words that may name files: for the log, not for clients.
    NotLoaded(String),
    /// Its process has ended, and how.
    Ended(String),
}

struct Loaded {
    backend: Arc<dyn Backend>,
    kill: Arc<Notify>,
    since: Instant,
    users: usize,
    /// Whether it has had a user at all.
    served: bool,
    idle_since: Instant,
    keep_alive: KeepAlive,
}

impl Entry {
    /// Whether no request has it or waits for it, and it is not being loaded for one.
    fn is_unused(&self) -> bool {
        let is_used = match &self.state {
            State::Loaded(loaded) => loaded.users > 0,
            State::Loading => true,
            _ => false,
        };
        !is_used && self.waiters == 0
    }

    /// Whether it was loaded for requests that have not come to it yet: they are not to find it
    /// gone.
    fn is_awaited(&self) -> bool {
        self.waiters > 0 && matches!(&self.state, State::Loaded(loaded) if !loaded.served)
    }
}

/// The use of a loaded model. While there is one, the model is not unloaded.
pub(super) struct Lease {
    pool: Arc<Pool>,
    at: usize,
    process: u64,
    backend: Arc<dyn Backend>,
}

/// A request that waits for a model. One that gives up leaves no trace.
struct Waiter<'a> {
    pool: &'a Pool,
    at: usize,
}

impl<'a> Waiter<'a> {
    fn new(pool: &'a Pool, at: usize) -> Self {
        pool.lock()[at].waiters += 1;
        Self { pool, at }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        {
            let entry = &mut self.pool.lock()[self.at];
            entry.waiters = entry.waiters.saturating_sub(1);
            if entry.waiters > 0 {
                return;
            }
            entry.hungry_since = None;
        }
        self.pool.changed.notify_waiters();
    }
}

/// What somebody wants of a model.
#[derive(Clone, Copy)]
enum Want {
    /// To use it, and how long it is to stay after that where that is said.
    Use(Option<KeepAlive>),
    /// To know what it can do.
    Knowledge,
}

/// What a request for a model comes to, for now.
enum Step {
    Have(Lease),
    Known,
    Wait,
    Fail(BackendError),
}

impl Pool {
    pub(super) fn new(
        openings: Vec<Opening>,
        start: Arc<dyn Start>,
        memory: Option<u64>,
        keep_alive: KeepAlive,
    ) -> Self {
        let entry = |_: &Opening| Entry {
            state: State::Unloaded,
            process: 0,
            forecast: None,
            known: None,
            deaths: 0,
            waiters: 0,
            hungry_since: None,
            leaving: false,
        };
        let models = Mutex::new(openings.iter().map(entry).collect());
        Self {
            openings,
            start,
            memory,
            keep_alive,
            models,
            changed: Notify::new(),
            runtime: SetOnce::new(),
        }
    }

    pub(super) fn openings(&self) -> &[Opening] {
        &self.openings
    }

    /// Where a model is among them.
    pub(super) fn find(&self, name: &str) -> Result<usize, BackendError> {
        let at = self
            .openings
            .iter()
            .position(|opening| opening.name == name);
        at.filter(|&at| self.has(at))
            .ok_or_else(|| BackendError::model_not_found(name))
    }

    /// Whether a model has not been deleted.
    pub(super) fn has(&self, at: usize) -> bool {
        !self.lock()[at].leaving
    }

    /// What a model says of itself, once it has been loaded.
    pub(super) fn known(&self, at: usize) -> Option<(Model, Arc<Abilities>)> {
        self.lock()[at].known.clone()
    }

    /// What a model will need, once its file has been looked at.
    pub(super) fn forecast(&self, at: usize) -> Option<Forecast> {
        self.lock()[at].forecast
    }

    /// Takes note of what a model will need.
    pub(super) fn foresee(&self, at: usize, forecast: Forecast) {
        self.lock()[at].forecast = Some(forecast);
    }

    /// Loads models in order while there is room, one after the other: they would only wait for the
    /// same disk. Engines are started in this runtime from now on. Fails with the first that cannot
    /// be loaded.
    pub(super) async fn load_what_fits(self: &Arc<Self>) -> Result<(), String> {
        let _ = self.runtime.set(Handle::current());
        for at in 0..self.openings.len() {
            {
                let mut models = self.lock();
                self.fits_at_all(at, &models)
                    .map_err(|error| error.to_string())?;
                // A request may have been quicker.
                let is_begun = !matches!(models[at].state, State::Unloaded);
                if !is_begun && !self.has_room(at, &models) {
                    continue;
                }
                if !is_begun {
                    self.begin(at, &mut models[at]);
                }
            }
            self.until(|models| !matches!(models[at].state, State::Loading))
                .await;
            if let State::Down {
                why: Why::NotLoaded(why) | Why::Ended(why),
                ..
            } = &self.lock()[at].state
            {
                return Err(format!(
                    "cannot load {}: {why}",
                    self.openings[at].file.display()
                ));
            }
        }
        Ok(())
    }

    /// The use of a model, which is loaded first where it is not. `keep_alive` says how long it is
    /// to stay after this use.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        at: usize,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, BackendError> {
        loop {
            // Never `Known`: that is not what was wanted.
            if let Some(lease) = self.wait_for(at, Want::Use(keep_alive)).await? {
                return Ok(lease);
            }
        }
    }

    /// What a model says of itself, for which it has to have been loaded once.
    pub(super) async fn learn(
        self: &Arc<Self>,
        at: usize,
    ) -> Result<(Model, Arc<Abilities>), BackendError> {
        loop {
            if let Some(known) = self.known(at) {
                return Ok(known);
            }
            self.wait_for(at, Want::Knowledge).await?;
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        at: usize,
        want: Want,
    ) -> Result<Option<Lease>, BackendError> {
        // Before the program's own runtime is known nothing is started.
        self.runtime.wait().await;
        let mut waiter = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.step(at, want) {
                Step::Have(lease) => return Ok(Some(lease)),
                Step::Known => return Ok(None),
                Step::Fail(error) => return Err(error),
                Step::Wait => {
                    waiter.get_or_insert_with(|| Waiter::new(self, at));
                    // Patience runs out without any change.
                    let _ = tokio::time::timeout(PATIENCE, changed).await;
                }
            }
        }
    }

    /// Whether a model can answer, or could be loaded to.
    pub(super) fn ready(&self) -> Result<(), BackendError> {
        let models = self.lock();
        if models
            .iter()
            .any(|entry| matches!(entry.state, State::Loaded(_)))
        {
            return Ok(());
        }
        let wanting = models
            .iter()
            .zip(&self.openings)
            .find_map(|(entry, opening)| match &entry.state {
                State::Loading => Some(format!("{} is being loaded", opening.name)),
                State::Down {
                    why: Why::NotLoaded(_),
                    ..
                } => Some(format!(
                    "{} cannot be loaded; the log says why",
                    opening.name
                )),
                State::Down {
                    why: Why::Ended(how),
                    ..
                } => Some(format!("the process of {} ended ({how})", opening.name)),
                // Nothing has been loaded yet.
                State::Unloaded if entry.known.is_none() => {
                    Some(format!("{} is about to be loaded", opening.name))
                }
                _ => None,
            });
        if models.iter().all(|entry| entry.leaving) {
            return Err(BackendError::NoModels);
        }
        wanting.map_or(Ok(()), |message| Err(BackendError::Engine { message }))
    }

    /// Unloads what nobody has used for as long as it was to be kept. Goes on for ever.
    pub(super) async fn unload_the_idle(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = self.unload_what_is_over();
            match next {
                Some(next) => drop(tokio::time::timeout_at(next, changed).await),
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, is_so: impl Fn(&[Entry]) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn step(self: &Arc<Self>, at: usize, want: Want) -> Step {
        let mut models = self.lock();
        let another_starves = models.iter().enumerate().any(|(other, entry)| {
            other != at
                && entry
                    .hungry_since
                    .is_some_and(|since| since.elapsed() >= PATIENCE)
        });
        if models[at].leaving {
            return Step::Fail(BackendError::model_not_found(&self.openings[at].name));
        }
        let process = models[at].process;
        match (&mut models[at].state, want) {
            (State::Loaded(_), Want::Knowledge) => return Step::Known,
            // One that has just been loaded has its turn first, or two would unload each other for
            // ever.
            (State::Loaded(loaded), _) if another_starves && loaded.served => return Step::Wait,
            (State::Loaded(loaded), Want::Use(keep_alive)) => {
                loaded.users += 1;
                loaded.served = true;
                loaded.keep_alive = keep_alive.unwrap_or(self.keep_alive);
                let backend = Arc::clone(&loaded.backend);
                return Step::Have(Lease {
                    pool: Arc::clone(self),
                    at,
                    process,
                    backend,
                });
            }
            (State::Loading | State::Unloading, _) => return Step::Wait,
            (State::Deleted, _) => {
                return Step::Fail(BackendError::model_not_found(&self.openings[at].name));
            }
            (
                State::Down {
                    why: Why::NotLoaded(_),
                    until,
                },
                _,
            ) if *until > Instant::now() => {
                let message = format!(
                    "the model `{}` cannot be loaded; the server's log says why",
                    self.openings[at].name
                );
                return Step::Fail(BackendError::Engine { message });
            }
            (
                State::Down {
                    why: Why::Ended(_),
                    until,
                },
                _,
            ) if *until > Instant::now() => {
                let retry_after = Some(until.duration_since(Instant::now()));
                return Step::Fail(BackendError::Busy { retry_after });
            }
            (State::Down { .. } | State::Unloaded, _) => {}
        }
        if let Err(error) = self.fits_at_all(at, &models) {
            return Step::Fail(error);
        }
        if self.has_room(at, &models) {
            self.begin(at, &mut models[at]);
        } else {
            models[at].hungry_since.get_or_insert_with(Instant::now);
            self.make_room(&mut models);
        }
        Step::Wait
    }

    fn fits_at_all(&self, at: usize, models: &[Entry]) -> Result<(), BackendError> {
        let (Some(memory), Some(forecast)) = (self.memory, models[at].forecast) else {
            return Ok(());
        };
        if forecast.bytes() <= memory {
            return Ok(());
        }
        let Forecast {
            weights,
            adapter,
            projector,
            draft,
            cache,
            compute,
            context,
            ..
        } = forecast;
        let (parallel, name) = (self.openings[at].parallel, &self.openings[at].name);
        let show = |bytes| ByteSize(bytes).display().iec().to_string();
        let of_draft = if draft > 0 {
            format!(", {} for its draft", show(draft))
        } else {
            String::new()
        };
        Err(BackendError::Engine {
            message: format!(
                "the model `{name}` needs {} of memory ({} of weights, {} for {parallel} × {context} tokens of context, {} to \
                 compute in{of_draft}) and {} may be used: lower --context or --parallel, take a smaller quantisation, or raise `memory`",
                show(forecast.bytes()),
                show(weights.saturating_add(adapter).saturating_add(projector)),
                show(cache),
                show(compute),
                show(memory),
            ),
        })
    }

    fn has_room(&self, at: usize, models: &[Entry]) -> bool {
        let Some(memory) = self.memory else {
            return true;
        };
        let has_memory = |entry: &Entry| {
            matches!(
                entry.state,
                State::Loading | State::Loaded(_) | State::Unloading
            )
        };
        let all = models.iter().zip(&self.openings).enumerate();
        let all = all.filter(|(other, (entry, _))| *other == at || has_memory(entry));
        together(
            all.filter_map(|(_, (entry, opening))| Some((opening.file.as_path(), entry.forecast?))),
        ) <= memory
    }

    /// Unloads the model that has been idle for longest, if none is being unloaded already.
    fn make_room(self: &Arc<Self>, models: &mut [Entry]) {
        if models
            .iter()
            .any(|entry| matches!(entry.state, State::Unloading))
        {
            return;
        }
        let idle = models
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| match &entry.state {
                State::Loaded(loaded) if loaded.users == 0 && !entry.is_awaited() => {
                    Some((loaded.idle_since, at))
                }
                _ => None,
            });
        if let Some((_, at)) = idle.min() {
            self.unload(at, &mut models[at], "another needs its room");
        }
    }

    /// Unloads what is over, and says when the next one is.
    fn unload_what_is_over(self: &Arc<Self>) -> Option<Instant> {
        let (mut models, now) = (self.lock(), Instant::now());
        let mut next: Option<Instant> = None;
        for at in 0..models.len() {
            let State::Loaded(Loaded {
                users: 0,
                served,
                idle_since,
                keep_alive: KeepAlive(Some(keep)),
                ..
            }) = models[at].state
            else {
                continue;
            };
            // Who had it loaded is on his way to it.
            let keep = if served { keep } else { keep.max(FIRST_USE) };
            match idle_since.checked_add(keep) {
                Some(end) if end <= now => {
                    self.unload(at, &mut models[at], "nobody has used it for a while");
                }
                Some(end) => next = Some(next.map_or(end, |next| next.min(end))),
                None => {}
            }
        }
        next
    }

    fn unload(self: &Arc<Self>, at: usize, entry: &mut Entry, why: &str) {
        let name = &self.openings[at].name;
        tracing::info!(model = name, why, "unloading a model");
        let before = std::mem::replace(&mut entry.state, State::Unloading);
        let (State::Loaded(loaded), Some(runtime)) = (before, self.runtime.get()) else {
            return;
        };
        let (pool, process) = (Arc::clone(self), entry.process);
        runtime.spawn(async move {
            // Dropped here, not under the lock: the engine's process sees the end of its input.
            let Loaded { backend, kill, .. } = loaded;
            drop(backend);
            let ended = pool.until(|models| {
                models[at].process != process || !matches!(models[at].state, State::Unloading)
            });
            if tokio::time::timeout(GRACE, ended).await.is_err() {
                kill.notify_one();
            }
        });
    }

    /// Starts loading.
    fn begin(self: &Arc<Self>, at: usize, entry: &mut Entry) {
        let Some(runtime) = self.runtime.get().filter(|_| !entry.leaving) else {
            return;
        };
        entry.state = State::Loading;
        entry.hungry_since = None;
        entry.process += 1;
        let (pool, process) = (Arc::clone(self), entry.process);
        let starting = self.start.start(&self.openings[at]);
        runtime.spawn(async move {
            match starting.await {
                Ok(started) => {
                    let exited = pool.loaded(at, process, started);
                    let how = exited.await;
                    pool.ended(at, process, &how);
                }
                Err(why) => pool.failed(at, process, why),
            }
        });
    }

    fn loaded(&self, at: usize, process: u64, started: Started) -> BoxFuture<'static, String> {
        let Started {
            backend,
            known,
            exited,
            kill,
        } = started;
        let now = Instant::now();
        let keep_alive = self.keep_alive;
        {
            let entry = &mut self.lock()[at];
            if entry.process != process {
                return exited;
            }
            entry.known = known
                .into_iter()
                .next()
                .map(|(card, abilities)| (card, Arc::new(unloadable(&abilities))));
            entry.state = State::Loaded(Loaded {
                backend,
                kill,
                since: now,
                users: 0,
                served: false,
                idle_since: now,
                keep_alive,
            });
        }
        tracing::info!(model = self.openings[at].name, "a model is loaded");
        self.changed.notify_waiters();
        exited
    }

    fn failed(self: &Arc<Self>, at: usize, process: u64, why: String) {
        tracing::error!(
            model = self.openings[at].name,
            why,
            "a model cannot be loaded"
        );
        let again = {
            let entry = &mut self.lock()[at];
            if entry.process != process {
                return;
            }
            entry.deaths = entry.deaths.saturating_add(1);
            let until = Instant::now() + backoff(entry.deaths);
            entry.state = State::Down {
                why: Why::NotLoaded(why),
                until,
            };
            // What could be loaded once may be again, when there is memory for it, say.
            entry.known.is_some().then_some(until)
        };
        self.changed.notify_waiters();
        if let Some(until) = again {
            self.start_again_at(at, until);
        }
    }

    /// A process has ended, as it was told to or by itself. Heard from whoever notices first.
    fn ended(self: &Arc<Self>, at: usize, process: u64, how: &str) {
        let restart = {
            let entry = &mut self.lock()[at];
            if entry.process != process {
                return;
            }
            match &entry.state {
                State::Unloading => {
                    entry.state = State::Unloaded;
                    None
                }
                State::Loaded(loaded) => {
                    // The first time, or after a good while, at once.
                    entry.deaths = if loaded.since.elapsed() >= LONG_ENOUGH {
                        0
                    } else {
                        entry.deaths
                    };
                    let until = Instant::now() + backoff(entry.deaths);
                    entry.deaths = entry.deaths.saturating_add(1);
                    tracing::error!(
                        model = self.openings[at].name,
                        how,
                        "an engine's process has ended"
                    );
                    // One that says nonsense may still be there.
                    loaded.kill.notify_one();
                    entry.state = State::Down {
                        why: Why::Ended(how.to_owned()),
                        until,
                    };
                    Some(until)
                }
                _ => return,
            }
        };
        self.changed.notify_waiters();
        if let Some(until) = restart {
            self.start_again_at(at, until);
        }
    }

    fn start_again_at(self: &Arc<Self>, at: usize, until: Instant) {
        let (pool, Some(runtime)) = (Arc::clone(self), self.runtime.get()) else {
            return;
        };
        runtime.spawn(async move {
            tokio::time::sleep_until(until).await;
            pool.start_again(at);
        });
    }

    fn start_again(self: &Arc<Self>, at: usize) {
        let mut models = self.lock();
        let is_due =
            matches!(models[at].state, State::Down { until, .. } if until <= Instant::now());
        if is_due && self.has_room(at, &models) {
            self.begin(at, &mut models[at]);
        }
    }
}

/// Bytes that models have together: what those from the same file share is counted once.
fn together<'a>(models: impl Iterator<Item = (&'a Path, Forecast)>) -> u64 {
    let (mut files, mut bytes) = (HashSet::new(), 0_u64);
    for (file, forecast) in models {
        let shared = if files.insert(file) {
            0
        } else {
            forecast.shared
        };
        bytes = bytes.saturating_add(forecast.bytes().saturating_sub(shared));
    }
    bytes
}

/// The same abilities in a pool, which unloads what nobody uses.
fn unloadable(abilities: &Abilities) -> Abilities {
    Abilities {
        can: abilities.can.with(Ability::KeepAlive),
        ..abilities.clone()
    }
}

/// How long to wait after so many deaths in a row: not at all after none, then 1 s, 2 s, 4 s, …
fn backoff(deaths: u32) -> Duration {
    let doubled = deaths
        .checked_sub(1)
        .map(|doublings| Duration::from_secs(1) * 2_u32.saturating_pow(doublings.min(16)));
    doubled.unwrap_or_default().min(LONGEST_BACKOFF)
}

impl Lease {
    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Its engine has ended: nobody is to get it any more.
    pub(super) fn is_lost(&self) {
        self.pool.ended(self.at, self.process, "it answers no more");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let entry = &mut self.pool.lock()[self.at];
            if entry.process != self.process {
                return;
            }
            if let State::Loaded(loaded) = &mut entry.state {
                loaded.users = loaded.users.saturating_sub(1);
                loaded.idle_since = Instant::now();
            }
        }
        self.pool.changed.notify_waiters();
    }
}

/// Memory that models may have where nobody says: what is available now, of the machine or of the
/// container. Nobody knows where a GPU holds the weights.
pub(super) fn memory_of_this_machine() -> Option<u64> {
    if cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan")) {
        return None;
    }
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let of_container = system
        .cgroup_limits()
        .map_or(u64::MAX, |limits| limits.free_memory);
    Some(system.available_memory().min(of_container)).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests;
