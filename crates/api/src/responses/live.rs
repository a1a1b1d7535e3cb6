//! The responses that this server is making now. Those that are made in the background also have
//! their events here, for clients that follow them or come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::stream;
use loggia_wire::frame::sse;
use tokio::sync::{Notify, watch};

use crate::store::Owner;

/// The most responses that are made in the background at the same time.
const MOST_IN_BACKGROUND: usize = 256;

/// The responses that are being made, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Live {
    running: Mutex<HashMap<Arc<str>, Arc<Running>>>,
}

impl Live {
    /// Enters a response whose client waits for it. It is removed when the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, id: Arc<str>, owner: Owner) -> Entry {
        let running = Arc::new(Running {
            owner,
            background: None,
        });
        self.lock().insert(Arc::clone(&id), Arc::clone(&running));
        Entry {
            live: Arc::clone(self),
            id,
            running,
        }
    }

    /// Enters a response that is made in the background. Returns `None` if there are too many.
    pub(crate) fn enter_background(
        self: &Arc<Self>,
        id: Arc<str>,
        owner: Owner,
        is_streamed: bool,
    ) -> Option<Entry> {
        let mut all = self.lock();
        let in_background = all.values().filter(|one| one.background.is_some());
        if in_background.count() >= MOST_IN_BACKGROUND {
            return None;
        }
        let running = Arc::new(Running {
            owner,
            background: Some(Background {
                log: is_streamed.then(Mutex::default),
                state: watch::Sender::new(State::default()),
                cancel: Notify::new(),
            }),
        });
        all.insert(Arc::clone(&id), Arc::clone(&running));
        Some(Entry {
            live: Arc::clone(self),
            id,
            running,
        })
    }

    /// Returns the response with this id, if it is being made for this owner.
    pub(crate) fn find(&self, id: &str, owner: &Owner) -> Option<Arc<Running>> {
        let found = self.lock().get(id).map(Arc::clone);
        found.filter(|running| running.owner == *owner)
    }

    /// No code panics while it holds the lock, so a poisoned map is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry of [`Live`]. Dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Entry {
    live: Arc<Live>,
    id: Arc<str>,
    pub(crate) running: Arc<Running>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = self.live.lock();
        // A background response replaces the entry of the request that asked for it.
        let is_own = |there: &Arc<Running>| Arc::ptr_eq(there, &self.running);
        if all.get(&self.id).is_some_and(is_own) {
            all.remove(&self.id);
        }
        drop(all);
        if let Some(background) = &self.running.background {
            background.state.send_modify(|state| state.has_ended = true);
        }
    }
}

/// A response that is being made.
#[derive(Debug)]
pub(crate) struct Running {
    owner: Owner,
    background: Option<Background>,
}

#[derive(Debug)]
struct Background {
    /// The events so far, each with its `event:` and `data:` lines. `None` if the client did not
    /// ask for a stream.
    log: Option<Mutex<Vec<Bytes>>>,
    state: watch::Sender<State>,
    cancel: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    events: usize,
    has_ended: bool,
}

impl Running {
    pub(crate) fn is_background(&self) -> bool {
        self.background.is_some()
    }

    /// Whether the response can be followed as a stream.
    pub(crate) fn is_streamed(&self) -> bool {
        let background = self.background.as_ref();
        background.is_some_and(|background| background.log.is_some())
    }

    /// Asks the task that makes the response to stop.
    pub(crate) fn cancel(&self) {
        if let Some(background) = &self.background {
            background.cancel.notify_one();
        }
    }

    /// Waits until somebody cancels the response.
    pub(crate) async fn cancelled(&self) {
        match &self.background {
            Some(background) => background.cancel.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the response has ended and is stored.
    pub(crate) async fn ended(&self) {
        if let Some(background) = &self.background {
            let mut state = background.state.subscribe();
            // Fails only if the sender is gone, which means the same.
            let _ = state.wait_for(|state| state.has_ended).await;
        }
    }

    /// Adds events to the log, and empties the buffer.
    pub(crate) fn push(&self, events: &mut Vec<u8>) {
        let Some(background) = &self.background else {
            return;
        };
        if let Some(log) = &background.log
            && !events.is_empty()
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend(each(events).map(Bytes::copy_from_slice));
            let count = log.len();
            drop(log);
            background.state.send_modify(|state| state.events = count);
        }
        events.clear();
    }

    /// Returns all events so far, as one text.
    pub(crate) fn log(&self) -> Option<Vec<u8>> {
        let log = self.background.as_ref()?.log.as_ref()?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        Some(log.concat())
    }

    fn from(&self, first: usize) -> Vec<Bytes> {
        let log = self
            .background
            .as_ref()
            .and_then(|background| background.log.as_ref());
        let Some(log) = log else {
            return Vec::new();
        };
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.get(first..).unwrap_or_default().to_vec()
    }

    /// Returns the events from `first` on: those that there are, then the others as they come.
    /// After `heartbeat` without an event it sends a comment.
    pub(crate) fn follow(
        self: Arc<Self>,
        first: usize,
        heartbeat: Option<Duration>,
    ) -> BoxStream<'static, Bytes> {
        let Some(background) = &self.background else {
            return Box::pin(stream::empty());
        };
        let state = background.state.subscribe();
        Box::pin(stream::unfold(
            (self, state, first),
            move |(running, mut state, next)| async move {
                let changed = state.wait_for(|state| state.events > next || state.has_ended);
                let is_silent = match heartbeat.filter(|every| !every.is_zero()) {
                    Some(every) => tokio::time::timeout(every, changed).await.is_err(),
                    None => changed.await.is_err(),
                };
                if is_silent {
                    let mut comment = Vec::new();
                    sse::write_comment(&mut comment, "still working");
                    return Some((comment.into(), (running, state, next)));
                }
                let events = running.from(next);
                if events.is_empty() {
                    return None;
                }
                let next = next + events.len();
                Some((Bytes::from(events.concat()), (running, state, next)))
            },
        ))
    }
}

/// The events of a text, each with the empty line that ends it.
pub(crate) fn each(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = text.windows(2).position(|two| two == b"\n\n")? + 2;
        let (event, rest) = text.split_at(end);
        text = rest;
        Some(event)
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn entry(live: &Arc<Live>) -> Entry {
        let entered = live.enter_background("resp_1".into(), Owner::NOBODY, true);
        entered.expect("there is room")
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_the_rest_and_then_what_is_new() {
        let live = Arc::new(Live::default());
        let entry = entry(&live);
        entry.running.push(&mut b"a: 0\n\na: 1\n\n".to_vec());
        let found = live.find("resp_1", &Owner::NOBODY).expect("it runs");
        let mut events = Arc::clone(&found).follow(1, None);
        assert_eq!(events.next().await.as_deref(), Some(&b"a: 1\n\n"[..]));
        entry.running.push(&mut b"a: 2\n\n".to_vec());
        assert_eq!(events.next().await.as_deref(), Some(&b"a: 2\n\n"[..]));
        assert_eq!(
            found.log().as_deref(),
            Some(&b"a: 0\n\na: 1\n\na: 2\n\n"[..])
        );
        drop(entry);
        assert_eq!(events.next().await, None);
        assert!(live.find("resp_1", &Owner::NOBODY).is_none());
        found.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_follows_gets_heartbeats() {
        let live = Arc::new(Live::default());
        let entry = entry(&live);
        let running = Arc::clone(&entry.running);
        let mut events = running.follow(0, Some(Duration::from_secs(15)));
        let beat = events.next().await.expect("a comment");
        assert!(beat.starts_with(b":"), "{beat:?}");
    }

    #[test]
    fn only_its_owner_finds_a_response_and_there_is_a_limit() {
        let live = Arc::new(Live::default());
        let entry = entry(&live);
        let other = Owner::new(Some("key".into()));
        assert!(live.find("resp_1", &other).is_none());
        let enter = |number: usize| {
            live.enter_background(format!("resp_{number}").into(), Owner::NOBODY, false)
        };
        let entries: Vec<_> = (2..=MOST_IN_BACKGROUND).filter_map(enter).collect();
        assert_eq!(entries.len(), MOST_IN_BACKGROUND - 1);
        assert!(enter(0).is_none());
        drop(entry);
        assert!(enter(0).is_some());
    }
}
