//! The responses that this server is making now. For background responses, it also has the events,
//! so that clients can follow a stream again later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::stream;
use loggia_wire::frame::sse;
use tokio::sync::watch;

use crate::store::Owner;

/// The maximum number of responses that are made in the background at the same time.
const MOST_IN_BACKGROUND: usize = 256;

/// The most time before the end of a shutdown at which background responses are stopped, so that
/// their ends can be stored.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The responses that are being made, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Live {
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    running: HashMap<Arc<str>, Arc<Running>>,
    /// Whether no more background responses are begun.
    is_closed: bool,
}

/// Why a response cannot be made in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotEntered {
    TooMany,
    ServerStops,
}

/// Why a background response is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A client cancelled or deleted the response.
    Cancelled,
    /// The server stops.
    ServerStops,
}

impl Live {
    /// Enters a response whose client waits for the answer. Dropping the entry removes it.
    pub(crate) fn enter(self: &Arc<Self>, id: Arc<str>, owner: Owner) -> Entry {
        let running = Arc::new(Running {
            owner,
            background: None,
        });
        let mut all = self.lock();
        all.running.insert(Arc::clone(&id), Arc::clone(&running));
        drop(all);
        Entry {
            live: Arc::clone(self),
            id,
            running,
        }
    }

    /// Enters a response that is made in the background.
    pub(crate) fn enter_background(
        self: &Arc<Self>,
        id: Arc<str>,
        owner: Owner,
        is_streamed: bool,
    ) -> Result<Entry, NotEntered> {
        let mut all = self.lock();
        if all.is_closed {
            return Err(NotEntered::ServerStops);
        }
        if all.in_background().count() >= MOST_IN_BACKGROUND {
            return Err(NotEntered::TooMany);
        }
        let running = Arc::new(Running {
            owner,
            background: Some(Background {
                log: is_streamed.then(Mutex::default),
                state: watch::Sender::new(State::default()),
                stop: watch::Sender::new(None),
            }),
        });
        all.running.insert(Arc::clone(&id), Arc::clone(&running));
        drop(all);
        Ok(Entry {
            live: Arc::clone(self),
            id,
            running,
        })
    }

    /// Returns the number of responses that are being made in the background.
    pub(crate) fn in_background(&self) -> usize {
        self.lock().in_background().count()
    }

    /// Accepts no more background responses, and waits until the running ones have ended and are
    /// stored. Shortly before `within` is over, it stops them.
    pub(crate) async fn finish(&self, within: Duration) {
        let running: Vec<Arc<Running>> = {
            let mut all = self.lock();
            all.is_closed = true;
            all.in_background().map(Arc::clone).collect()
        };
        let mut ended = std::pin::pin!(async {
            for one in &running {
                one.ended().await;
            }
        });
        let last_words = LAST_WORDS.min(within / 4);
        let unstopped = within.saturating_sub(last_words);
        if tokio::time::timeout(unstopped, &mut ended).await.is_ok() {
            return;
        }
        for one in &running {
            one.stop(Stop::ServerStops);
        }
        if tokio::time::timeout(last_words, ended).await.is_err() {
            tracing::warn!("the ends of background responses were not stored in time");
        }
    }

    /// Returns the response with this id, if it is being made for this owner.
    pub(crate) fn find(&self, id: &str, owner: &Owner) -> Option<Arc<Running>> {
        let found = self.lock().running.get(id).map(Arc::clone);
        found.filter(|running| running.owner == *owner)
    }

    /// No code panics while it holds the lock, so a poisoned map is whole.
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn in_background(&self) -> impl Iterator<Item = &Arc<Running>> {
        let running = self.running.values();
        running.filter(|one| one.is_background())
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
        if all.running.get(&self.id).is_some_and(is_own) {
            all.running.remove(&self.id);
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
    /// Why the task that makes the response must stop.
    stop: watch::Sender<Option<Stop>>,
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
    pub(crate) fn stop(&self, why: Stop) {
        if let Some(background) = &self.background {
            background.stop.send_if_modified(|stop| {
                let is_first = stop.is_none();
                *stop = stop.or(Some(why));
                is_first
            });
        }
    }

    /// Waits until the response must stop.
    pub(crate) async fn stopped(&self) -> Stop {
        if let Some(background) = &self.background {
            let mut stop = background.stop.subscribe();
            // Fails only if the sender is gone, which this borrows.
            if let Ok(why) = stop.wait_for(Option::is_some).await
                && let Some(why) = *why
            {
                return why;
            }
        }
        std::future::pending().await
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

    /// Returns the events from `first` on: first the existing ones, then new ones as they come.
    /// After `heartbeat` without an event, a comment is sent.
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
        let entries: Vec<_> = (2..=MOST_IN_BACKGROUND).map(enter).collect();
        assert!(entries.iter().all(Result::is_ok));
        assert_eq!(enter(0).err(), Some(NotEntered::TooMany));
        drop(entry);
        assert!(enter(0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_waits_for_responses_and_stops_them_before_its_time_is_over() {
        let live = Arc::new(Live::default());
        let entry = entry(&live);
        let running = Arc::clone(&entry.running);
        let begun = tokio::time::Instant::now();
        let finishing = live.finish(Duration::from_secs(30));
        let making = async move {
            let why = running.stopped().await;
            let after = begun.elapsed();
            drop(entry);
            (why, after)
        };
        let ((), (why, after)) = tokio::join!(finishing, making);
        assert_eq!(why, Stop::ServerStops);
        assert_eq!(after.as_secs(), 28);
        assert_eq!(begun.elapsed().as_secs(), 28);
        let late = live.enter_background("resp_2".into(), Owner::NOBODY, false);
        assert_eq!(late.err(), Some(NotEntered::ServerStops));
        // Without a response there is nothing to wait for.
        live.finish(Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed().as_secs(), 28);
    }
}
