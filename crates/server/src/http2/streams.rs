//! The task of each stream. It ends the answer when the server's time is over, and the stream when
//! its client does not read.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::shutdown::EndNow;

tokio::task_local! {
    /// The reader of the stream whose task this is.
    static READER: Arc<Reader>;
}

/// The streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    /// Resolves when the time of the answers that still run is over.
    overdue: watch::Receiver<()>,
    end_now: EndNow,
    stall_timeout: Duration,
}

impl Streams {
    pub(super) fn new(
        overdue: watch::Receiver<()>,
        end_now: EndNow,
        stall_timeout: Duration,
    ) -> Self {
        Self {
            overdue,
            end_now,
            stall_timeout,
        }
    }

    /// Polls a stream to its end.
    async fn run(mut self, stream: impl Future<Output = ()>) {
        let reader = Reader::of_this_stream();
        let mut stream = pin!(stream);
        loop {
            tokio::select! {
                biased;
                () = &mut stream => return,
                // The answer is polled again, and sees that it must end.
                _ = self.overdue.changed(), if !self.end_now.is_set() => self.end_now.set(),
                // Dropping the stream resets it.
                () = reader.stalled_for(self.stall_timeout) => {
                    tracing::debug!("a stream was reset: its client does not read");
                    return;
                }
            }
        }
    }
}

/// hyper calls this for each stream that a client opens.
impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let streams = self.clone();
        tokio::spawn(READER.scope(Arc::default(), streams.run(stream)));
    }
}

/// The reader of an answer: since when it has left a piece waiting.
#[derive(Debug, Default)]
pub(super) struct Reader(Mutex<Option<Instant>>);

impl Reader {
    /// Returns the reader of the stream in whose task this is called.
    pub(super) fn of_this_stream() -> Arc<Self> {
        READER.try_with(Arc::clone).unwrap_or_default()
    }

    /// A piece of the answer waits to be taken.
    pub(super) fn offer(&self) {
        *self.since() = Some(Instant::now());
    }

    /// The next piece is asked for, so that the last one was taken.
    pub(super) fn take(&self) {
        *self.since() = None;
    }

    /// Resolves when a piece has waited for this time.
    async fn stalled_for(&self, time: Duration) {
        loop {
            let now = Instant::now();
            let since = *self.since();
            let due = since.unwrap_or(now) + time;
            if since.is_some() && due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
