//! Which models are loaded: on first use, as far as the memory goes, and not longer than they are
//! wanted.
//!
//! One lock holds what all models are doing, so that every decision sees them together. No process
//! is started or waited for under it. Reading order: this file (the models), `entry` (one model and
//! what becomes of it, as functions of values), `memory` (what fits), `waiting` (requests), `lease`
//! (the use of a model), `idle` (unloading what nobody uses), `running` (starting engines, and
//! starting them again), `delete` (how a model leaves for good).

mod delete;
mod entry;
mod idle;
mod lease;
mod memory;
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
use entry::{Known, State, Why};
pub(super) use lease::Lease;
pub(super) use memory::of_this_machine as memory_of_this_machine;

/// The models, and what each of them is doing.
pub(super) struct Pool {
    specs: Vec<ModelSpec>,
    start: Arc<dyn Start>,
    /// Bytes that all loaded models may have together. `None`: no limit is known.
    memory: Option<u64>,
    keep_alive: KeepAlive,
    models: Mutex<Vec<Entry>>,
    /// Something changed that somebody may be waiting for.
    changed: Notify,
    /// Where engines are started and watched: the program's own runtime. Requests run on those of
    /// the server's threads, which may end before.
    runtime: Handle,
    /// Set when the models that fit at the start are being loaded; requests wait for it.
    is_open: SetOnce<()>,
}

/// A running engine.
#[derive(Clone)]
struct Engine {
    backend: Arc<dyn Backend>,
    /// Ends it at once.
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

    /// Where a model is among them.
    pub(super) fn find(&self, name: &str) -> Result<usize, BackendError> {
        let at = self.specs.iter().position(|spec| spec.name == name);
        at.filter(|&at| self.has(at))
            .ok_or_else(|| BackendError::model_not_found(name))
    }

    /// Whether a model has not been deleted.
    pub(super) fn has(&self, at: usize) -> bool {
        !self.lock()[at].leaving
    }

    /// What a model says of itself, once it has been loaded.
    pub(super) fn known(&self, at: usize) -> Option<Known> {
        self.lock()[at].known.clone()
    }

    /// What a model will need, once its file has been read.
    pub(super) fn forecast(&self, at: usize) -> Option<Forecast> {
        self.lock()[at].forecast
    }

    /// Takes note of what a model will need.
    pub(super) fn foresee(&self, at: usize, forecast: Forecast) {
        self.lock()[at].forecast = Some(forecast);
    }

    /// Whether a model can answer, or could be loaded to.
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

    /// Waits until something is so.
    async fn until(&self, is_so: impl Fn(&[Entry]) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

/// Why a model cannot answer now. Nothing where it would be loaded for a request.
fn what_is_wanting(entry: &Entry, name: &str) -> Option<String> {
    match &entry.state {
        State::Loading => Some(format!("{name} is being loaded")),
        State::Down { why, .. } => Some(match why {
            Why::NotLoaded(_) => format!("{name} cannot be loaded; the log says why"),
            Why::Ended(how) => format!("the process of {name} ended ({how})"),
        }),
        State::Unloaded if entry.known.is_none() => Some(format!("{name} is about to be loaded")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
