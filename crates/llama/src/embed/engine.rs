//! The interface of the engine for callers: they take a place in its queue, send inputs,
//! and receive vectors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::job::{Job, QueuePlace};
use super::model::PooledModel;
use super::worker;
use crate::Token;
use crate::error::{EngineError, LoadError};

/// The `Retry-After` time if the queue is full. Most requests take less time than that.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A running engine. Dropping it ends its thread after the current batch.
pub(super) struct Engine {
    /// `None` only while the engine is being dropped.
    jobs: Option<mpsc::SyncSender<Job>>,
    places: Arc<Semaphore>,
    most: usize,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine's thread, and waits until it can compute. It accepts at most `most`
    /// requests at a time.
    pub(super) fn start(model: Arc<PooledModel>, most: usize) -> Result<Self, LoadError> {
        // Every job holds a place in the queue, so the channel cannot overflow.
        let (jobs, incoming) = mpsc::sync_channel(most);
        let (ready, started) = mpsc::sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("loggia-pooling".to_owned())
            .spawn(move || worker::run(&model, &incoming, &for_thread, &ready))
            .map_err(LoadError::Thread)?;
        let places = Arc::new(Semaphore::new(most));
        let engine = Self {
            jobs: Some(jobs),
            places,
            most,
            stopping,
            thread: Some(thread),
        };
        match started.recv() {
            Ok(Ok(())) => Ok(engine),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LoadError::Setting(
                "the engine stopped while it was starting; see the log for the reason".to_owned(),
            )),
        }
    }

    /// Reserves a place in the queue.
    pub(super) fn place(&self) -> Result<QueuePlace, EngineError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(QueuePlace::new).map_err(|_| EngineError::Busy {
            waiting: self.most,
            retry_after: RETRY_AFTER,
        })
    }

    /// Computes the vectors of inputs. Dropping the future removes them from the queue before the
    /// next batch.
    pub(super) async fn compute(
        &self,
        place: QueuePlace,
        inputs: Vec<Vec<Token>>,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let (answer, vectors) = oneshot::channel();
        let sent = self
            .jobs
            .as_ref()
            .map(|jobs| jobs.try_send(Job::new(inputs, answer, place)));
        if !matches!(sent, Some(Ok(()))) {
            return Err(EngineError::Stopped);
        }
        vectors.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Whether the engine is still running.
    pub(super) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The thread's loop ends when there is no sender any more.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of an embedding or reranking engine panicked");
        }
    }
}
