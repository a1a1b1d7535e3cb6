//! The pool of models. It loads models on first use, as far as the memory suffices, and unloads
//! them when they have been idle for too long.
//!
//! One lock protects the states of all models, so that every decision sees all of them. No process
//! is started or awaited while the lock is held.
//!
//! Reading order: this file (the models), `entry` (the state of one model, as pure functions),
//! `memory` (what fits), `waiting` (requests), `lease`, `idle` (unloading), `running` (starting and
//! restarting engines), `delete`, `readings` (metrics).

mod delete;
mod entry;
mod idle;
mod lease;
mod memory;
mod readings;
mod running;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loggia_backend::{Backend, BackendError};
use loggia_llama::Forecast;
use tokio::runtime::Handle;
use tokio::sync::{Notify, SetOnce};

use super::model_spec::ModelSpec;
use super::start::Start;
use crate::config::KeepAlive;
use entry::{DownReason, Known, State};
pub(super) use lease::Lease;
pub(super) use memory::{available as available_memory, of_this_machine as memory_of_this_machine};

/// The models and their states.
pub(super) struct Pool {
    specs: Vec<ModelSpec>,
    start: Arc<dyn Start>,
    /// The memory limit for all loaded models, in bytes.
    memory: Option<u64>,
    keep_alive: KeepAlive,
    models: Mutex<Vec<Entry>>,
    /// Notified when a state changes.
    changed: Notify,
    /// The program's own runtime, where engines are started and watched. Requests run on the
    /// runtimes of the server's threads, which may end earlier.
    runtime: Handle,
    /// Set when loading begins; requests wait for it.
    is_open: SetOnce<()>,
}

/// A running engine.
#[derive(Clone)]
struct Engine {
    backend: Arc<dyn Backend>,
    /// Notifying this kills the engine's process.
    kill: Arc<Notify>,
}

type Entry = entry::Entry<Engine>;

impl Pool {
    pub(super) fn new(
        specs: Vec<ModelSpec>,
        start: Arc<dyn Start>,
        memory: Option<u64>,
        keep_alive: KeepAlive,
        runtime: Handle,
    ) -> Self {
        let models = Mutex::new(specs.iter().map(|_| Entry::new()).collect());
        Self {
            specs,
            start,
            memory,
            keep_alive,
            models,
            changed: Notify::new(),
            runtime,
            is_open: SetOnce::new(),
        }
    }

    pub(super) fn specs(&self) -> &[ModelSpec] {
        &self.specs
    }

    /// The index of a model.
    pub(super) fn find(&self, name: &str) -> Result<usize, BackendError> {
        let at = self.specs.iter().position(|spec| spec.name == name);
        at.filter(|&at| self.has(at))
            .ok_or_else(|| BackendError::model_not_found(name))
    }

    /// Whether a model exists, that is, has not been deleted.
    pub(super) fn has(&self, at: usize) -> bool {
        !self.lock()[at].leaving
    }

    /// A model's description and abilities, once it has been loaded.
    pub(super) fn known(&self, at: usize) -> Option<Known> {
        self.lock()[at].known.clone()
    }

    /// The memory that a model needs, once its file has been read.
    pub(super) fn forecast(&self, at: usize) -> Option<Forecast> {
        self.lock()[at].forecast
    }

    /// Sets the memory that a model needs.
    pub(super) fn foresee(&self, at: usize, forecast: Forecast) {
        self.lock()[at].forecast = Some(forecast);
    }

    /// Fails if no model can answer, with the reason.
    pub(super) fn ready(&self) -> Result<(), BackendError> {
        let models = self.lock();
        let is_loaded = |entry: &Entry| matches!(entry.state, State::Loaded(_));
        if models.iter().any(is_loaded) {
            return Ok(());
        }
        if models.iter().all(|entry| entry.leaving) {
            return Err(BackendError::NoModels);
        }
        let mut all = models.iter().zip(&self.specs);
        let wanting = all.find_map(|(entry, spec)| what_is_wanting(entry, &spec.name));
        wanting.map_or(Ok(()), |message| Err(BackendError::Engine { message }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition holds.
    async fn until(&self, is_so: impl Fn(&[Entry]) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on, every notification is received.
            changed.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// Returns why a model cannot answer now. `None` if a request would load the model.
fn what_is_wanting(entry: &Entry, name: &str) -> Option<String> {
    match &entry.state {
        State::Loading => Some(format!("{name} is being loaded")),
        State::Down { why, .. } => Some(match why {
            DownReason::NotLoaded(_) => format!("{name} cannot be loaded; the log says why"),
            DownReason::Ended(how) => format!("the process of {name} ended ({how})"),
        }),
        State::Unloaded if entry.known.is_none() => Some(format!("{name} is about to be loaded")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
