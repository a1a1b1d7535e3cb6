//! The threads that serve connections. Each has its own runtime, and a connection stays on its
//! thread.
//!
//! That costs less than a shared runtime (`docs/decisions/0007-runtime.md`): there are no locks,
//! and fewer wake-ups between threads. Threads get connections in turn.

use std::io;
use std::net::TcpStream as Socket;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{Barrier, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::ServerOptions;
use crate::app::App;
use crate::connection::Connection;
use crate::room::Place;
use crate::shutdown::last_words;

/// An accepted connection, and its place in the limit on open connections.
type Accepted = (Socket, Place);

/// The worker threads of the server.
pub(crate) struct Threads {
    workers: Vec<Worker>,
    next: usize,
    /// Dropping this makes all connections close after their running answers.
    closing: watch::Sender<()>,
}

struct Worker {
    accepted: mpsc::Sender<Accepted>,
    ended: oneshot::Receiver<()>,
}

impl Threads {
    /// Starts the configured number of threads. With 0, the current runtime does their work.
    pub(crate) fn start(app: &App, options: &ServerOptions) -> io::Result<Self> {
        let (closing, closed) = watch::channel(());
        let count = options.workers.max(1);
        let all_drained = Arc::new(Barrier::new(count));
        let mut workers = Vec::with_capacity(count);
        for number in 1..=count {
            // The number of open connections is limited, so this channel is never full.
            let (accepted, receiver) = mpsc::channel(options.max_connections.max(1));
            let (ending, overdue) = watch::channel(());
            let thread = WorkerThread {
                accepted: receiver,
                connection: Connection::new(app.clone(), options, closed.clone(), overdue),
                ending,
                shutdown_timeout: options.shutdown_timeout,
                all_drained: all_drained.clone(),
            };
            let (end, ended) = oneshot::channel();
            if options.workers == 0 {
                tokio::spawn(thread.work(end));
            } else {
                thread.spawn(number, end)?;
            }
            workers.push(Worker { accepted, ended });
        }
        Ok(Self {
            workers,
            next: 0,
            closing,
        })
    }

    /// Hands a connection to the next thread.
    pub(crate) fn take(&mut self, stream: TcpStream, place: Place) {
        let worker = &self.workers[self.next];
        self.next = (self.next + 1) % self.workers.len();
        let given = stream
            .into_std()
            .map(|socket| worker.accepted.try_send((socket, place)).is_ok());
        if !matches!(given, Ok(true)) {
            tracing::warn!("a connection was dropped: cannot hand it to a thread");
        }
    }

    /// Lets running answers finish, and ends the threads.
    pub(crate) async fn finish(self) {
        drop(self.closing);
        // Collected before the first is awaited, because all threads end at the same time.
        let ends: Vec<_> = self
            .workers
            .into_iter()
            .map(|worker| worker.ended)
            .collect();
        for ended in ends {
            // An error means that the thread has ended already.
            let _gone = ended.await;
        }
    }
}

/// The work of one thread.
struct WorkerThread {
    accepted: mpsc::Receiver<Accepted>,
    connection: Connection,
    /// Dropping this ends all running answers.
    ending: watch::Sender<()>,
    shutdown_timeout: Duration,
    /// No runtime ends before the others are done: a task may wait for a task of another runtime.
    all_drained: Arc<Barrier>,
}

impl WorkerThread {
    fn spawn(self, number: usize, end: oneshot::Sender<()>) -> io::Result<()> {
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
        let last_words = last_words(self.shutdown_timeout);
        let unended = self.shutdown_timeout.saturating_sub(last_words);
        if !are_done(&mut connections, unended).await {
            tracing::warn!(
                connections = connections.len(),
                "ending answers that did not finish in time"
            );
            drop(self.ending);
            if !are_done(&mut connections, last_words).await {
                tracing::warn!(
                    connections = connections.len(),
                    "closed connections whose clients did not read the end of their answers"
                );
                connections.shutdown().await;
            }
        }
        self.all_drained.wait().await;
        // Fails only if `run` was dropped.
        let _heard = end.send(());
    }

    fn serve(&self, (socket, place): Accepted, connections: &mut JoinSet<()>) {
        let connection = self.connection.clone();
        match TcpStream::from_std(socket) {
            Ok(stream) => {
                connections.spawn(connection.serve(stream, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was dropped: its thread cannot register it");
            }
        }
    }
}

/// Whether all connections end within this time.
async fn are_done(connections: &mut JoinSet<()>, within: Duration) -> bool {
    let done = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(within, done).await.is_ok()
}
