//! The interface of the projector, which encodes images and sounds into rows. It runs on its own
//! thread, so that no stream waits for it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::cache::{Identity, Kept, lock};
use super::encoded::Seen;
use super::job::{Answer, Decoded, Job, Medium, Refused};
use super::marks::Asked;
use super::worker::{Facts, Worker, within};
use super::{image, sound};
use crate::error::LoadError;
use crate::model::Model;
use crate::options::LlamaOptions;
use crate::raw;

/// The maximum number of files that are being decoded, wait for the projector, or are being
/// encoded: each may take hundreds of megabytes.
const DECODED_AT_ONCE: usize = 2;

/// The projector of a model, and its thread. Dropping it ends the thread after the current file.
#[derive(Debug)]
pub(crate) struct Media {
    facts: Facts,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    kept: Arc<Mutex<Kept>>,
    /// Places for requests whose file is being processed or waits for that.
    waiting: Semaphore,
    decoding: Arc<Semaphore>,
}

impl Media {
    /// Loads the projector that the options name, if any, on its own thread, and waits until it is
    /// loaded.
    pub(crate) fn of(
        options: &LlamaOptions,
        model: &Arc<Model>,
    ) -> Result<Option<Self>, LoadError> {
        let load = |path: &PathBuf| Self::load(path, options, Arc::clone(model));
        options.mmproj.as_ref().map(load).transpose()
    }

    fn load(path: &Path, options: &LlamaOptions, model: Arc<Model>) -> Result<Self, LoadError> {
        let (threads, use_gpu) = (options.threads(), options.gpu_layers != Some(0));
        let (jobs, waiting) = sync_channel(DECODED_AT_ONCE);
        let (ready, started) = sync_channel(1);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (file, known) = (path.to_owned(), Arc::clone(&kept));
        let run = move || {
            let vocabulary = model.facts.vocabulary;
            let Some(projector) = raw::Projector::load(&file, model, threads, use_gpu) else {
                return;
            };
            let mut worker = Worker {
                projector,
                kept: known,
                vocabulary,
                rows_at_once: 0,
            };
            let Some(facts) = worker.facts() else { return };
            worker.rows_at_once = facts.rows_at_once;
            if ready.send(facts).is_ok() {
                worker.run(&waiting);
            }
        };
        let thread = std::thread::Builder::new()
            .name("loggia-media".to_owned())
            .spawn(run)
            .map_err(LoadError::Thread)?;
        let facts = started.recv().map_err(|_| LoadError::Projector {
            path: path.to_owned(),
        })?;
        let waiting = Semaphore::new(options.parallel as usize + options.queue());
        let decoding = Arc::new(Semaphore::new(DECODED_AT_ONCE));
        Ok(Self {
            facts,
            jobs: Some(jobs),
            thread: Some(thread),
            kept,
            waiting,
            decoding,
        })
    }

    /// What the projector supports.
    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    /// Encodes an image or a sound, which may take at most `room` tokens.
    pub(crate) async fn see(&self, asked: &Arc<Asked>, room: usize) -> Result<Arc<Seen>, Refused> {
        let rows = |answer| Answer::Rows(room, answer);
        self.ask(asked, rows, |known| within(known, room)).await
    }

    /// Counts the tokens and rows of an image or a sound without encoding it.
    pub(crate) async fn count(&self, asked: &Arc<Asked>) -> Result<usize, Refused> {
        self.ask(asked, Answer::Count, |known| Ok(known.tokens()))
            .await
    }

    /// Waits for the result of a job of the thread, or takes it from the rows in the cache.
    async fn ask<T>(
        &self,
        asked: &Arc<Asked>,
        job: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Answer,
        from: impl FnOnce(Arc<Seen>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let takes = if asked.format.is_none() {
            self.facts.sees
        } else {
            self.facts.hears.is_some()
        };
        if !takes {
            return Err(Refused::Kind);
        }
        let identity = identity(asked);
        if let Some(seen) = lock(&self.kept).find(&identity) {
            return from(seen);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Refused::Busy)?;
        let leave = Arc::clone(&self.decoding)
            .acquire_owned()
            .await
            .map_err(|_| Refused::Failed(ENDED))?;
        // Another request may have encoded the same file meanwhile.
        if let Some(seen) = lock(&self.kept).find(&identity) {
            return from(seen);
        }
        let decoded = self.decode(asked, leave).await?;
        let (answer, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(Refused::Failed(ENDED))?;
        let job = Job {
            identity,
            decoded,
            answer: job(answer),
        };
        jobs.try_send(job).map_err(|error| match error {
            // Not reached in practice: the channel has room for all files that may be decoded.
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Failed(ENDED),
        })?;
        result.await.map_err(|_| Refused::Failed(ENDED))?
    }

    async fn decode(
        &self,
        asked: &Arc<Asked>,
        leave: OwnedSemaphorePermit,
    ) -> Result<Decoded, Refused> {
        let (asked, rate) = (Arc::clone(asked), self.facts.hears.unwrap_or_default());
        // Decoding continues even if the client leaves, so the permit moves into it.
        let decode = move || {
            let medium = match &asked.format {
                None => image::decode(&asked.bytes).map(Medium::Picture),
                Some(format) => sound::decode(&asked.bytes, format, rate).map(Medium::Sound),
            };
            medium.map(|medium| Decoded {
                medium,
                _leave: leave,
            })
        };
        let decoded = tokio::task::spawn_blocking(decode).await;
        decoded
            .map_err(|_| Refused::File("it cannot be decoded".to_owned()))?
            .map_err(Refused::File)
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the projector's thread panicked");
        }
    }
}

const ENDED: &str = "the projector has ended";

fn identity(asked: &Asked) -> Identity {
    let mut hash = Sha256::new();
    hash.update([u8::from(asked.format.is_some())]);
    hash.update(asked.format.as_deref().unwrap_or_default());
    hash.update([0]);
    hash.update(&asked.bytes);
    hash.finalize().into()
}
