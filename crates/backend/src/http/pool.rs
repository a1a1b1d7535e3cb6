//! Connections that wait for their next request.
//!
//! A connection stays with the runtime that made it: another would be woken through it, at the cost
//! of a system call for each piece.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};

use super::connection::Connection;

/// How long an unused connection is kept. uvicorn (vLLM) and cpp-httplib (llama-server) close
/// theirs after 5 s: a request sent into that moment would be lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// The most unused connections to one address.
const IDLE_CONNECTIONS: usize = 512;

/// Connections that wait for their next request; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Shelves>>);

/// One for each place. They are few, and to compare them takes less than to hash one.
type Shelves = Vec<Shelf>;

/// Where a connection leads, and the runtime it lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    runtime: Id,
}

#[derive(Debug)]
struct Shelf {
    place: Place,
    /// The last used is the last.
    waiting: Vec<(Connection, Instant)>,
}

/// A connection in use, and the way back to its place.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Connection,
    place: Place,
    pool: Weak<Mutex<Shelves>>,
}

impl Pool {
    /// A connection to where this URI leads that is still open, as far as is known.
    pub(super) fn take(&self, uri: &Uri) -> Option<Lease> {
        let place = Place::of(uri);
        loop {
            let (connection, since) = shelf(&mut lock(&self.0), &place)?.waiting.pop()?;
            let mut lease = self.lease(connection, place.clone());
            if since.elapsed() < IDLE_CONNECTION && lease.connection.is_ready() {
                return Some(lease);
            }
        }
    }

    /// A new connection to where this URI leads.
    pub(super) fn adopt(&self, connection: Connection, uri: &Uri) -> Lease {
        self.lease(connection, Place::of(uri))
    }

    fn lease(&self, connection: Connection, place: Place) -> Lease {
        Lease {
            connection,
            place,
            pool: Arc::downgrade(&self.0),
        }
    }
}

impl Lease {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Gives the connection back, once its answer has been read to the end. One that cannot take
    /// another request is closed.
    pub(super) fn give_back(mut self) {
        let (Some(pool), Ok(here)) = (self.pool.upgrade(), Handle::try_current()) else {
            return;
        };
        if here.id() != self.place.runtime || !self.connection.is_ready() {
            return;
        }
        let waits = (self.connection, Instant::now());
        let mut shelves = lock(&pool);
        match shelf(&mut shelves, &self.place) {
            Some(there) if there.waiting.len() >= IDLE_CONNECTIONS => {}
            Some(there) => there.waiting.push(waits),
            None => {
                here.spawn(clear(self.pool, self.place.clone()));
                shelves.push(Shelf {
                    place: self.place,
                    waiting: vec![waits],
                });
            }
        }
    }
}

impl Place {
    /// Calls need a runtime, so there is one.
    fn of(uri: &Uri) -> Self {
        Self {
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            runtime: Handle::current().id(),
        }
    }
}

/// Closes what nobody has used for long, until nothing is left; then the shelf goes too.
async fn clear(pool: Weak<Mutex<Shelves>>, place: Place) {
    loop {
        sleep(IDLE_CONNECTION).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut shelves = lock(&pool);
        let Some(at) = shelves.iter().position(|shelf| shelf.place == place) else {
            return;
        };
        let waiting = &mut shelves[at].waiting;
        let fresh = waiting.partition_point(|(_, since)| since.elapsed() >= IDLE_CONNECTION);
        let kept = waiting.split_off(fresh);
        let _closed_once_unlocked = mem::replace(waiting, kept);
        if waiting.is_empty() {
            shelves.swap_remove(at);
            return;
        }
        drop(shelves);
    }
}

fn shelf<'a>(shelves: &'a mut Shelves, place: &Place) -> Option<&'a mut Shelf> {
    shelves.iter_mut().find(|shelf| shelf.place == *place)
}

fn lock(pool: &Mutex<Shelves>) -> MutexGuard<'_, Shelves> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
