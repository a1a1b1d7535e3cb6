//! The state of one model, and its transitions. Nothing here waits, starts anything or reads the
//! clock: each transition is a function of the entry and the time.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::Abilities;
use loggia_llama::Forecast;
use loggia_wire::openai::Model;
use tokio::time::Instant;

use crate::config::KeepAlive;

/// After a process that ran this long, the backoff starts again from zero.
pub(super) const LONG_ENOUGH: Duration = Duration::from_mins(1);

/// The longest backoff.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// The shortest time that a model stays loaded before its first use, whatever its `keep_alive`.
const FIRST_USE: Duration = Duration::from_secs(10);

/// A model's description and abilities.
pub(super) type Known = (Model, Arc<Abilities>);

/// The state of a model. `E` is a running engine.
pub(super) struct Entry<E> {
    pub(super) state: State<E>,
    /// The number of the model's latest process. Reports of older processes are ignored.
    process: u64,
    pub(super) forecast: Option<Forecast>,
    /// Kept when the model is unloaded.
    pub(super) known: Option<Known>,
    /// How many times in a row its process ended unexpectedly.
    deaths: u32,
    /// The number of waiting requests.
    pub(super) waiters: usize,
    /// The time since which a request for this model has been waiting for memory.
    pub(super) hungry_since: Option<Instant>,
    /// Whether the model is being deleted or has been deleted. Then it is not started, and requests
    /// do not get it.
    pub(super) leaving: bool,
}

pub(super) enum State<E> {
    Unloaded,
    Loading,
    Loaded(Loaded<E>),
    /// The model's process has got the signal to end.
    Unloading,
    /// The model has been deleted.
    Deleted,
    /// The model is not started again before `until`.
    Down {
        why: DownReason,
        until: Instant,
    },
}

/// Why a model is down.
pub(super) enum DownReason {
    /// The model could not be loaded. The reason may contain paths: it is for the log, not for
    /// clients.
    NotLoaded(String),
    /// The model's process ended, with this status.
    Ended(String),
}

pub(super) struct Loaded<E> {
    engine: E,
    since: Instant,
    pub(super) users: usize,
    /// Whether a request has used the model since it was loaded.
    served: bool,
    idle_since: Instant,
    keep_alive: KeepAlive,
}

/// The use of a model that a request needs.
#[derive(Clone, Copy)]
pub(super) enum Need {
    /// To use the model. The model stays loaded for this time afterwards.
    Use(KeepAlive),
    /// To know the model's abilities.
    Knowledge,
}

/// The next step of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<E> {
    /// The request gets the engine of this process, and counts as its user.
    Have(E, u64),
    /// The abilities are known.
    Known,
    /// The request waits until the state changes.
    Wait,
    /// The model must be loaded.
    Load,
    /// The model does not exist.
    Gone,
    /// Loading failed a short while ago.
    NotLoaded,
    /// The engine is started again after this time.
    Restarting(Duration),
}

/// The consequence of the end of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProcessEnd<E> {
    /// Nothing is done: the process was an older one, or its end was already known.
    Nothing,
    /// The model was unloaded.
    Unloaded,
    /// The process ended unexpectedly. It is started again at this time.
    Sudden { engine: E, again: Instant },
}

impl<E: Clone> Entry<E> {
    pub(super) fn new() -> Self {
        Self {
            state: State::Unloaded,
            process: 0,
            forecast: None,
            known: None,
            deaths: 0,
            waiters: 0,
            hungry_since: None,
            leaving: false,
        }
    }

    /// A request asks for the model, or asks again. `another_starves`: a request for another model
    /// has been waiting for memory for too long.
    pub(super) fn step(&mut self, want: Need, another_starves: bool, now: Instant) -> Decision<E> {
        if self.leaving {
            return Decision::Gone;
        }
        let process = self.process;
        match (&mut self.state, want) {
            (State::Loaded(_), Need::Knowledge) => Decision::Known,
            // A newly loaded model is used first; otherwise two models would unload each other
            // forever.
            (State::Loaded(loaded), Need::Use(_)) if another_starves && loaded.served => {
                Decision::Wait
            }
            (State::Loaded(loaded), Need::Use(keep_alive)) => {
                loaded.users += 1;
                loaded.served = true;
                loaded.keep_alive = keep_alive;
                Decision::Have(loaded.engine.clone(), process)
            }
            (State::Loading | State::Unloading, _) => Decision::Wait,
            (State::Deleted, _) => Decision::Gone,
            (State::Down { why, until }, _) if *until > now => match why {
                DownReason::NotLoaded(_) => Decision::NotLoaded,
                DownReason::Ended(_) => Decision::Restarting(until.duration_since(now)),
            },
            (State::Down { .. } | State::Unloaded, _) => Decision::Load,
        }
    }

    /// Starts loading, and returns the number of the process. `None` if the model is being deleted.
    pub(super) fn begin(&mut self) -> Option<u64> {
        if self.leaving {
            return None;
        }
        self.state = State::Loading;
        self.hungry_since = None;
        self.process += 1;
        Some(self.process)
    }

    /// A process has loaded the model. Returns false for an old process.
    pub(super) fn loaded(
        &mut self,
        process: u64,
        engine: E,
        known: Option<Known>,
        keep_alive: KeepAlive,
        now: Instant,
    ) -> bool {
        if self.process != process {
            return false;
        }
        self.known = known;
        self.state = State::Loaded(Loaded {
            engine,
            since: now,
            users: 0,
            served: false,
            idle_since: now,
            keep_alive,
        });
        true
    }

    /// A process could not load the model. Returns when to try again, if the model could be loaded
    /// before.
    pub(super) fn failed(&mut self, process: u64, why: String, now: Instant) -> Option<Instant> {
        if self.process != process {
            return None;
        }
        self.deaths = self.deaths.saturating_add(1);
        let until = now + backoff(self.deaths);
        self.state = State::Down {
            why: DownReason::NotLoaded(why),
            until,
        };
        self.known.is_some().then_some(until)
    }

    /// A process has ended, expectedly or not.
    pub(super) fn ended(&mut self, process: u64, how: &str, now: Instant) -> ProcessEnd<E> {
        if self.process != process {
            return ProcessEnd::Nothing;
        }
        match &self.state {
            State::Unloading => {
                self.state = State::Unloaded;
                ProcessEnd::Unloaded
            }
            State::Loaded(loaded) => {
                let engine = loaded.engine.clone();
                // There is no backoff the first time, and none after a long run.
                if now.duration_since(loaded.since) >= LONG_ENOUGH {
                    self.deaths = 0;
                }
                let again = now + backoff(self.deaths);
                self.deaths = self.deaths.saturating_add(1);
                self.state = State::Down {
                    why: DownReason::Ended(how.to_owned()),
                    until: again,
                };
                ProcessEnd::Sudden { engine, again }
            }
            _ => ProcessEnd::Nothing,
        }
    }

    /// Whether the backoff is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Down { until, .. } if until <= now)
    }

    /// A request that used this process has ended.
    pub(super) fn release(&mut self, process: u64, now: Instant) {
        if self.process != process {
            return;
        }
        if let State::Loaded(loaded) = &mut self.state {
            loaded.users = loaded.users.saturating_sub(1);
            loaded.idle_since = now;
        }
    }

    /// Returns when the model is unloaded if nothing uses it.
    pub(super) fn expires(&self) -> Option<Instant> {
        let State::Loaded(Loaded {
            users: 0,
            served,
            idle_since,
            keep_alive: KeepAlive(Some(keep)),
            ..
        }) = self.state
        else {
            return None;
        };
        // The request that caused the loading has not used it yet.
        let keep = if served { keep } else { keep.max(FIRST_USE) };
        idle_since.checked_add(keep)
    }

    /// Returns since when the model has been idle, if it may be unloaded for another model.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match &self.state {
            State::Loaded(loaded) if loaded.users == 0 && !self.is_awaited() => {
                Some(loaded.idle_since)
            }
            _ => None,
        }
    }

    /// Starts unloading, and returns the engine: dropping it closes the process's input, which ends
    /// it.
    pub(super) fn unload(&mut self) -> Option<(E, u64)> {
        match std::mem::replace(&mut self.state, State::Unloading) {
            State::Loaded(loaded) => Some((loaded.engine, self.process)),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether this process has still not ended.
    pub(super) fn is_unloading(&self, process: u64) -> bool {
        self.process == process && matches!(self.state, State::Unloading)
    }

    /// Whether the model uses memory, or is about to.
    pub(super) fn has_memory(&self) -> bool {
        matches!(
            self.state,
            State::Loading | State::Loaded(_) | State::Unloading
        )
    }

    /// Whether no request uses the model or waits for it.
    pub(super) fn is_unused(&self) -> bool {
        let is_used = match &self.state {
            State::Loaded(loaded) => loaded.users > 0,
            State::Loading => true,
            _ => false,
        };
        !is_used && self.waiters == 0
    }

    /// Whether the model was loaded for a request that has not used it yet.
    fn is_awaited(&self) -> bool {
        self.waiters > 0 && matches!(&self.state, State::Loaded(loaded) if !loaded.served)
    }
}

/// The backoff after this many unexpected ends in a row: 0 s after none, then 1 s, 2 s, 4 s, …
fn backoff(deaths: u32) -> Duration {
    let doubled = deaths
        .checked_sub(1)
        .map(|doublings| Duration::from_secs(1) * 2_u32.saturating_pow(doublings.min(16)));
    doubled.unwrap_or_default().min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: KeepAlive = KeepAlive(Some(Duration::from_mins(5)));
    const FOR_EVER: KeepAlive = KeepAlive(None);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A model that process 1, called "one", has loaded.
    fn loaded(now: Instant) -> Entry<&'static str> {
        let mut entry = Entry::new();
        assert_eq!(entry.begin(), Some(1));
        assert!(entry.loaded(1, "one", None, KEEP, now));
        entry
    }

    #[test]
    fn a_request_loads_waits_uses_and_releases() {
        let now = Instant::now();
        let mut entry = Entry::new();
        let step = |entry: &mut Entry<_>, want| entry.step(want, false, now);
        assert_eq!(step(&mut entry, Need::Use(KEEP)), Decision::Load);
        assert_eq!(entry.begin(), Some(1));
        assert_eq!(step(&mut entry, Need::Use(KEEP)), Decision::Wait);
        assert_eq!(step(&mut entry, Need::Knowledge), Decision::Wait);
        assert!(entry.loaded(1, "one", None, KEEP, now));
        assert_eq!(step(&mut entry, Need::Knowledge), Decision::Known);
        assert!(entry.is_unused());
        assert_eq!(step(&mut entry, Need::Use(KEEP)), Decision::Have("one", 1));
        assert!(!entry.is_unused());
        entry.release(1, now);
        assert!(entry.is_unused());
        assert_eq!(entry.unload(), Some(("one", 1)));
        assert_eq!(step(&mut entry, Need::Use(KEEP)), Decision::Wait);
        assert_eq!(entry.ended(1, "as told", now), ProcessEnd::Unloaded);
        assert_eq!(step(&mut entry, Need::Use(KEEP)), Decision::Load);
    }

    #[test]
    fn a_model_that_has_served_makes_way_for_one_that_starves_and_a_fresh_one_does_not() {
        let now = Instant::now();
        let mut entry = loaded(now);
        let starving = |entry: &mut Entry<_>| entry.step(Need::Use(KEEP), true, now);
        assert_eq!(starving(&mut entry), Decision::Have("one", 1));
        assert_eq!(starving(&mut entry), Decision::Wait);
    }

    #[test]
    fn it_expires_after_its_last_use_and_not_before_its_first() {
        let now = Instant::now();
        let mut entry = loaded(now);
        assert_eq!(entry.expires(), Some(now + seconds(300)));
        let none = KeepAlive(Some(Duration::ZERO));
        let mut fresh = Entry::new();
        fresh.begin();
        fresh.loaded(1, "one", None, none, now);
        assert_eq!(fresh.expires(), Some(now + FIRST_USE));
        fresh.step(Need::Use(none), false, now);
        assert_eq!((fresh.expires(), fresh.idle_since()), (None, None));
        fresh.release(1, now + seconds(3));
        assert_eq!(fresh.expires(), Some(now + seconds(3)));
        assert_eq!(fresh.idle_since(), Some(now + seconds(3)));
        entry.step(Need::Use(FOR_EVER), false, now);
        entry.release(1, now);
        assert_eq!(entry.expires(), None);
    }

    #[test]
    fn one_that_was_loaded_for_a_waiting_request_is_not_unloaded_for_another() {
        let now = Instant::now();
        let mut entry = loaded(now);
        entry.waiters = 1;
        assert_eq!(entry.idle_since(), None);
        assert!(!entry.is_unused());
        entry.step(Need::Use(KEEP), false, now);
        entry.release(1, now);
        assert_eq!(entry.idle_since(), Some(now));
    }

    #[test]
    fn a_process_that_ends_is_started_again_at_once_then_later_and_after_a_good_while_at_once() {
        let mut now = Instant::now();
        let mut entry = loaded(now);
        let mut process = 1;
        for (lived, wait) in [(0, 0), (0, 1), (0, 2), (0, 4), (60, 0), (59, 1)] {
            now += seconds(lived);
            let again = now + seconds(wait);
            let end = entry.ended(process, "signal: 9", now);
            assert_eq!(
                end,
                ProcessEnd::Sudden {
                    engine: "one",
                    again
                }
            );
            assert_eq!(entry.is_due(now), wait == 0);
            assert!(entry.is_due(again));
            if wait > 0 {
                let step = entry.step(Need::Use(KEEP), false, now);
                assert_eq!(step, Decision::Restarting(seconds(wait)));
            }
            process = entry.begin().unwrap();
            assert!(entry.loaded(process, "one", None, KEEP, now));
        }
    }

    #[test]
    fn what_could_be_loaded_once_is_tried_again() {
        let now = Instant::now();
        let mut entry = Entry::<&str>::new();
        entry.begin();
        assert_eq!(entry.failed(1, "broken".to_owned(), now), None);
        assert_eq!(entry.step(Need::Knowledge, false, now), Decision::NotLoaded);
        let later = now + seconds(1);
        assert_eq!(entry.step(Need::Knowledge, false, later), Decision::Load);
        entry.known = Some((Model::new("m", 0, "test"), Arc::default()));
        entry.begin();
        let again = entry.failed(2, "no memory".to_owned(), later);
        assert_eq!(again, Some(later + seconds(2)));
    }

    #[test]
    fn news_of_an_old_process_changes_nothing() {
        let now = Instant::now();
        let mut entry = loaded(now);
        entry.ended(1, "signal: 9", now);
        assert_eq!(entry.begin(), Some(2));
        assert!(!entry.loaded(1, "old", None, KEEP, now));
        assert_eq!(entry.failed(1, "old".to_owned(), now), None);
        assert!(entry.loaded(2, "two", None, KEEP, now));
        assert_eq!(entry.ended(1, "old", now), ProcessEnd::Nothing);
        entry.step(Need::Use(KEEP), false, now);
        entry.release(1, now);
        assert!(!entry.is_unused(), "a user of the old process");
        assert!(!entry.is_unloading(1));
    }

    #[test]
    fn one_that_is_being_deleted_is_gone_and_not_started() {
        let now = Instant::now();
        let mut entry = Entry::<&str>::new();
        entry.leaving = true;
        assert_eq!(entry.step(Need::Knowledge, false, now), Decision::Gone);
        assert_eq!((entry.begin(), entry.unload()), (None, None));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|deaths| backoff(deaths).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }
}
