//! Starts engines, watches them, and starts them again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Ability};
use tokio::time::Instant;

use super::super::start::Started;
use super::entry::{DownReason, ProcessEnd, State};
use super::{Engine, Entry, Pool};

/// How long an engine may take to end before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

impl Pool {
    /// Loads models in order as long as they fit, one after the other, because all read the same
    /// disk. From now on requests load models, too.
    ///
    /// # Errors
    ///
    /// The first model that cannot be loaded.
    pub(in super::super) async fn load_what_fits(self: &Arc<Self>) -> Result<(), String> {
        let _ = self.is_open.set(());
        for at in 0..self.specs.len() {
            if !self.begin_if_it_fits(at)? {
                continue;
            }
            self.until(|models| !matches!(models[at].state, State::Loading))
                .await;
            if let State::Down {
                why: DownReason::NotLoaded(why) | DownReason::Ended(why),
                ..
            } = &self.lock()[at].state
            {
                let file = self.specs[at].file.display();
                return Err(format!("cannot load {file}: {why}"));
            }
        }
        Ok(())
    }

    /// Starts loading a model if it fits. Returns whether it is being loaded, also by a request.
    fn begin_if_it_fits(self: &Arc<Self>, at: usize) -> Result<bool, String> {
        let mut models = self.lock();
        self.fits_at_all(at, &models)
            .map_err(|error| error.to_string())?;
        if !matches!(models[at].state, State::Unloaded) {
            return Ok(true);
        }
        let has_room = self.has_room(at, &models);
        if has_room {
            self.begin(at, &mut models[at]);
        }
        Ok(has_room)
    }

    /// Starts loading.
    pub(super) fn begin(self: &Arc<Self>, at: usize, entry: &mut Entry) {
        let Some(process) = entry.begin() else {
            return;
        };
        let pool = Arc::clone(self);
        let starting = self.start.start(&self.specs[at]);
        self.runtime.spawn(async move {
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
        let known = known.into_iter().next();
        let known = known.map(|(card, abilities)| (card, Arc::new(unloadable(&abilities))));
        let engine = Engine { backend, kill };
        let is_new =
            self.lock()[at].loaded(process, engine, known, self.keep_alive, Instant::now());
        if is_new {
            tracing::info!(model = self.specs[at].name, "a model is loaded");
            self.changed.notify_waiters();
        }
        exited
    }

    fn failed(self: &Arc<Self>, at: usize, process: u64, why: String) {
        let model = &self.specs[at].name;
        tracing::error!(model, why, "a model cannot be loaded");
        let again = self.lock()[at].failed(process, why, Instant::now());
        self.changed.notify_waiters();
        if let Some(again) = again {
            self.start_again_at(at, again);
        }
    }

    /// Reports that a process has ended, expectedly or not. The first part of the program that
    /// notices it calls this.
    pub(super) fn ended(self: &Arc<Self>, at: usize, process: u64, how: &str) {
        let end = self.lock()[at].ended(process, how, Instant::now());
        if matches!(end, ProcessEnd::Nothing) {
            return;
        }
        self.changed.notify_waiters();
        if let ProcessEnd::Sudden { engine, again } = end {
            let model = &self.specs[at].name;
            tracing::error!(model, how, "an engine's process has ended");
            // A process whose output is invalid may still be running.
            engine.kill.notify_one();
            self.start_again_at(at, again);
        }
    }

    fn start_again_at(self: &Arc<Self>, at: usize, again: Instant) {
        let pool = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep_until(again).await;
            let mut models = pool.lock();
            if models[at].is_due(Instant::now()) && pool.has_room(at, &models) {
                pool.begin(at, &mut models[at]);
            }
        });
    }

    /// Unloads the idle models at the end of the program, and waits until their engines have
    /// written their caches to disk. An engine that does not end in time is killed, and so is one
    /// that still answers.
    pub(in super::super) async fn unload_all(self: &Arc<Self>) {
        {
            let mut models = self.lock();
            for (at, entry) in models.iter_mut().enumerate() {
                if entry.idle_since().is_some() {
                    self.unload(at, entry, "the program ends");
                }
            }
        }
        let have_ended = |models: &[Entry]| {
            let is_unloading = |entry: &Entry| matches!(entry.state, State::Unloading);
            !models.iter().any(is_unloading)
        };
        // A little longer than each engine has.
        let ended = self.until(have_ended);
        let _ = tokio::time::timeout(GRACE + Duration::from_secs(1), ended).await;
    }

    /// Unloads a model: ends its engine, and kills it if it does not end in time.
    pub(super) fn unload(self: &Arc<Self>, at: usize, entry: &mut Entry, why: &str) {
        let Some((engine, process)) = entry.unload() else {
            return;
        };
        tracing::info!(model = self.specs[at].name, why, "unloading a model");
        let pool = Arc::clone(self);
        self.runtime.spawn(async move {
            let Engine { backend, kill } = engine;
            // Dropped here, without the lock: this closes the input of the engine's process.
            drop(backend);
            let ended = pool.until(|models| !models[at].is_unloading(process));
            if tokio::time::timeout(GRACE, ended).await.is_err() {
                kill.notify_one();
            }
        });
    }
}

/// The abilities of a model in a pool, which supports `keep_alive`.
fn unloadable(abilities: &Abilities) -> Abilities {
    Abilities {
        can: abilities.can.with(Ability::KeepAlive),
        ..abilities.clone()
    }
}
