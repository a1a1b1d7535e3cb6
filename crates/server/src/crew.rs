//! The threads that serve: each has a runtime of its own and keeps its connections to itself.
//!
//! A connection that stays on one thread costs less than one that any thread may pick up
//! (`docs/decisions/0007-runtime.md`): nothing is locked, and what wakes it is there already. Which
//! thread gets it is decided once, in turn.

use std::io;
use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{Barrier, OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::ServerOptions;
use crate::connection::Connection;

/// A connection on its way to its thread, and the place that it takes up.
type Accepted = (Socket, OwnedSemaphorePermit);

/// The threads.
pub(crate) struct Crew {
    workers: Vec<Worker>,
    next: usize,
    /// Dropped when the server is told to stop.
    closing: watch::Sender<()>,
}

struct Worker {
    accepted: mpsc::Sender<Accepted>,
    ended: oneshot::Receiver<()>,
}

impl Crew {
    /// Starts as many threads as the options say; with none, the runtime that this is called on
    /// does their work.
    pub(crate) fn start(app: &Router, options: &ServerOptions) -> io::Result<Self> {
        let (closing, closed) = watch::channel(());
        let connection = Connection::new(app.clone(), options, closed);
        let count = options.workers.max(1);
        let all_drained = Arc::new(Barrier::new(count));
        let mut workers = Vec::with_capacity(count);
        for number in 1..=count {
            // There are never more connections than places, so this is never full.
            let (accepted, receiver) = mpsc::channel(options.max_connections.max(1));
            let shift = Shift {
                accepted: receiver,
                connection: connection.clone(),
                shutdown_timeout: options.shutdown_timeout,
                all_drained: all_drained.clone(),
            };
            let (end, ended) = oneshot::channel();
            if options.workers == 0 {
                tokio::spawn(shift.work(end));
            } else {
                shift.on_a_thread(number, end)?;
            }
            workers.push(Worker { accepted, ended });
        }
        Ok(Self {
            workers,
            next: 0,
            closing,
        })
    }

    /// Gives a connection to the thread whose turn it is.
    pub(crate) fn take(&mut self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let worker = &self.workers[self.next];
        self.next = (self.next + 1) % self.workers.len();
        let given = stream
            .into_std()
            .map(|socket| worker.accepted.try_send((socket, place)).is_ok());
        if !matches!(given, Ok(true)) {
            tracing::warn!("a connection was dropped: it could not be given to a thread");
        }
    }

    /// Lets what is under way finish, and ends the threads.
    pub(crate) async fn finish(self) {
        drop(self.closing);
        // All of them before the first is waited for: they end together.
        let ends: Vec<_> = self
            .workers
            .into_iter()
            .map(|worker| worker.ended)
            .collect();
        for ended in ends {
            // An error means as much: the thread is gone.
            let _gone = ended.await;
        }
    }
}

/// What one thread does.
struct Shift {
    accepted: mpsc::Receiver<Accepted>,
    connection: Connection,
    shutdown_timeout: Duration,
    /// What was begun on one runtime may be waited for on another: none may end before all are
    /// done.
    all_drained: Arc<Barrier>,
}

impl Shift {
    fn on_a_thread(self, number: usize, end: oneshot::Sender<()>) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name(format!("loggia-{number}"));
        thread
            .spawn(move || runtime.block_on(self.work(end)))
            .map(drop)
    }

    async fn work(mut self, end: oneshot::Sender<()>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.accepted.recv() => match accepted {
                    Some(accepted) => self.serve(accepted, &mut connections),
                    None => break,
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
        let under_way = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shutdown_timeout, under_way)
            .await
            .is_err()
        {
            tracing::warn!(
                connections = connections.len(),
                "cut what had not finished in time"
            );
            connections.shutdown().await;
        }
        self.all_drained.wait().await;
        // Nobody listens where `run` itself was given up.
        let _heard = end.send(());
    }

    fn serve(&self, (socket, place): Accepted, connections: &mut JoinSet<()>) {
        let connection = self.connection.clone();
        match TcpStream::from_std(socket) {
            Ok(stream) => {
                connections.spawn(connection.serve(stream, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was dropped: its thread could not take it");
            }
        }
    }
}
