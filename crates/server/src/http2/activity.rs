//! What happens on a connection: which streams run, and which answers are not completely sent. It
//! decides when the connection is idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::room::Place;

/// The activity of one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    /// Notified when a stream begins.
    begun: Notify,
}

struct State {
    /// The streams whose answer has not ended.
    running: usize,
    /// The pieces of answers that wait to be sent.
    unsent: usize,
    changed: Instant,
}

impl State {
    fn is_over(&self) -> bool {
        self.running == 0 && self.unsent == 0
    }
}

impl Default for Activity {
    fn default() -> Self {
        let state = Mutex::new(State {
            running: 0,
            unsent: 0,
            changed: Instant::now(),
        });
        let begun = Notify::new();
        Self { state, begun }
    }
}

impl Activity {
    /// Counts one more stream. The first of the connection uses the connection's place; each other
    /// needs a place of its own. `None`: there is none.
    pub(super) fn begin(self: &Arc<Self>, place: &Place) -> Option<Running> {
        let mut state = self.state();
        let place = if state.running == 0 {
            None
        } else {
            Some(place.beside()?)
        };
        state.running += 1;
        drop(state);
        self.begun.notify_waiters();
        Some(Running {
            activity: Arc::clone(self),
            _place: place,
        })
    }

    /// Counts a piece of an answer until it is sent.
    pub(super) fn send(self: &Arc<Self>) -> Unsent {
        self.state().unsent += 1;
        Unsent(Arc::clone(self))
    }

    /// Resolves when no stream has run for this time, and no piece of an answer was sent in it.
    pub(super) async fn idle_for(&self, time: Duration) {
        self.unchanged_for(time, |state| state.running == 0).await;
    }

    /// Resolves when a further stream begins, or when no stream has run for this time and everything
    /// was sent.
    pub(super) async fn begun_or_over_for(&self, time: Duration) {
        tokio::select! {
            () = self.begun.notified() => {}
            () = self.unchanged_for(time, State::is_over) => {}
        }
    }

    /// Resolves when, from now on, no stream runs and nothing is left to send for this time.
    pub(super) async fn over_for(&self, time: Duration) {
        self.state().changed = Instant::now();
        self.unchanged_for(time, State::is_over).await;
    }

    async fn unchanged_for(&self, time: Duration, is_quiet: fn(&State) -> bool) {
        loop {
            let now = Instant::now();
            let (is_quiet, due) = {
                let state = self.state();
                (is_quiet(&state), state.changed + time)
            };
            if is_quiet && due <= now {
                return;
            }
            sleep_until(if is_quiet { due } else { now + time }).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a running stream until it is dropped.
pub(super) struct Running {
    activity: Arc<Activity>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.running -= 1;
        state.changed = Instant::now();
    }
}

/// Counts a piece of an answer that is not sent until it is dropped.
pub(super) struct Unsent(Arc<Activity>);

impl Drop for Unsent {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.unsent -= 1;
        state.changed = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerOptions;
    use crate::room::Room;

    const SECOND: Duration = Duration::from_secs(1);

    async fn place(connections: usize) -> Place {
        let options = ServerOptions {
            max_connections: connections,
            ..ServerOptions::default()
        };
        let room = Room::new(&options);
        room.enter(room.place().await.unwrap())
    }

    /// The time that passes until this resolves.
    async fn time_of(waiting: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        waiting.await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_the_end_of_its_last_stream() {
        let activity = Arc::<Activity>::default();
        let place = place(2).await;
        let first = activity.begin(&place);
        let second = activity.begin(&place);
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.idle_for(3 * SECOND).await }
        });
        tokio::time::sleep(10 * SECOND).await;
        drop(first);
        tokio::time::sleep(10 * SECOND).await;
        assert!(!waiting.is_finished());
        drop(second);
        let waited = time_of(async { waiting.await.unwrap() }).await;
        assert!((3 * SECOND..7 * SECOND).contains(&waited), "{waited:?}");
        // Nothing happens any more.
        assert_eq!(time_of(activity.idle_for(3 * SECOND)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_the_last_piece_is_sent() {
        let activity = Arc::<Activity>::default();
        let piece = activity.send();
        let sent = tokio::spawn(async move {
            tokio::time::sleep(10 * SECOND).await;
            drop(piece);
        });
        let over = time_of(activity.over_for(SECOND)).await;
        assert!(sent.is_finished());
        assert!((11 * SECOND..=13 * SECOND).contains(&over), "{over:?}");
        // The time begins now, however long nothing has happened.
        assert_eq!(time_of(activity.over_for(SECOND)).await, SECOND);
    }

    #[tokio::test]
    async fn all_streams_but_the_first_need_a_place_of_their_own() {
        let activity = Arc::<Activity>::default();
        let place = place(2).await;
        let first = activity.begin(&place);
        let second = activity.begin(&place);
        assert!(first.is_some() && second.is_some());
        assert!(activity.begin(&place).is_none());
        drop(second);
        let third = activity.begin(&place);
        assert!(third.is_some());
        drop((first, third));
        assert!(activity.begin(&place).is_some());
    }
}
