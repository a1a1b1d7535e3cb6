//! A pool of idle connections.
//!
//! A connection stays with the runtime that created it. Another runtime would be woken through it,
//! which costs a system call per piece of data.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};

use super::connection::Connection;

/// How long an idle connection is kept. uvicorn (vLLM) and cpp-httplib (llama-server) close theirs
/// after 5 s, and a request sent at that moment would be lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// The maximum number of idle connections per address.
const IDLE_CONNECTIONS: usize = 512;

/// A pool of idle connections. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Shelves>>);

/// The idle connections, with one shelf per destination. A linear search beats hashing, because
/// there are few destinations.
type Shelves = Vec<Shelf>;

/// The destination of a connection, and its runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    runtime: Id,
}

#[derive(Debug)]
struct Shelf {
    destination: Destination,
    /// The most recently used connection is last.
    waiting: Vec<(Connection, Instant)>,
}

/// A connection in use, and its place in the pool.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Connection,
    destination: Destination,
    pool: Weak<Mutex<Shelves>>,
}

impl Pool {
    /// Takes an idle connection to the destination of this URI that is still open, as far as known.
    pub(super) fn take(&self, uri: &Uri) -> Option<Lease> {
        let destination = Destination::of(uri);
        loop {
            let (connection, since) = shelf(&mut lock(&self.0), &destination)?.waiting.pop()?;
            let mut lease = self.lease(connection, destination.clone());
            if since.elapsed() < IDLE_CONNECTION && lease.connection.is_ready() {
                return Some(lease);
            }
        }
    }

    /// Adds a new connection to the destination of this URI.
    pub(super) fn adopt(&self, connection: Connection, uri: &Uri) -> Lease {
        self.lease(connection, Destination::of(uri))
    }

    fn lease(&self, connection: Connection, destination: Destination) -> Lease {
        Lease {
            connection,
            destination,
            pool: Arc::downgrade(&self.0),
        }
    }
}

impl Lease {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Returns the connection to the pool after its response was read to the end. Closes it if it
    /// cannot take another request.
    pub(super) fn give_back(mut self) {
        let (Some(pool), Ok(here)) = (self.pool.upgrade(), Handle::try_current()) else {
            return;
        };
        if here.id() != self.destination.runtime || !self.connection.is_ready() {
            return;
        }
        let waits = (self.connection, Instant::now());
        let mut shelves = lock(&pool);
        match shelf(&mut shelves, &self.destination) {
            Some(there) if there.waiting.len() >= IDLE_CONNECTIONS => {}
            Some(there) => there.waiting.push(waits),
            None => {
                here.spawn(clear(self.pool, self.destination.clone()));
                shelves.push(Shelf {
                    destination: self.destination,
                    waiting: vec![waits],
                });
            }
        }
    }
}

impl Destination {
    /// `Handle::current` cannot panic, because calls run in a Tokio runtime.
    fn of(uri: &Uri) -> Self {
        Self {
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            runtime: Handle::current().id(),
        }
    }
}

/// Closes connections that have been idle for too long. Removes the shelf when it is empty.
async fn clear(pool: Weak<Mutex<Shelves>>, destination: Destination) {
    loop {
        sleep(IDLE_CONNECTION).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut shelves = lock(&pool);
        let Some(at) = shelves
            .iter()
            .position(|shelf| shelf.destination == destination)
        else {
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

fn shelf<'a>(shelves: &'a mut Shelves, destination: &Destination) -> Option<&'a mut Shelf> {
    shelves
        .iter_mut()
        .find(|shelf| shelf.destination == *destination)
}

fn lock(pool: &Mutex<Shelves>) -> MutexGuard<'_, Shelves> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
