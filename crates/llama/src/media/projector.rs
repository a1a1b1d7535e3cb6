//! The interface of the projector, which encodes images and sounds into rows. It runs on its own
//! thread, so that no stream waits for it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::cache::{Cache, Identity, lock};
use super::encoded::Encoded;
use super::job::{Decoded, DecodedMedia, Job, JobKind, MediaError};
use super::marks::MediaFile;
use super::worker::{ProjectorFacts, Worker, within};
use super::{image, sound};
use crate::engine::Scope;
use crate::error::LoadError;
use crate::model::Model;
use crate::options::LlamaOptions;
use crate::raw;

/// The maximum number of files that are decoded at a time: those that are being decoded, that wait
/// for the projector, and that are being encoded. Each may take hundreds of megabytes.
const DECODED_AT_ONCE: usize = 2;

/// The projector of a model, and its thread. Dropping it ends the thread after the current file.
#[derive(Debug)]
pub(crate) struct ProjectorThread {
    facts: ProjectorFacts,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    cache: Arc<Mutex<Cache>>,
    /// Limits the number of requests whose file is being processed or waits for that.
    waiting: Semaphore,
    decoding: Arc<Semaphore>,
}

impl ProjectorThread {
    /// Starts the thread, and waits until it has loaded the projector. Returns `None` if the
    /// options name no projector.
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
        let cache = Arc::new(Mutex::new(Cache::default()));
        let (file, known) = (path.to_owned(), Arc::clone(&cache));
        let run = move || {
            let vocabulary = model.facts.vocabulary;
            let Some(projector) = raw::Projector::load(&file, model, threads, use_gpu) else {
                return;
            };
            let mut worker = Worker {
                projector,
                cache: known,
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
            cache,
            waiting,
            decoding,
        })
    }

    /// The properties of the projector.
    pub(crate) fn facts(&self) -> ProjectorFacts {
        self.facts
    }

    /// Encodes an image or a sound, which may take at most `room` tokens. Only requests of the same
    /// scope share the result.
    pub(crate) async fn encode(
        &self,
        file: &Arc<MediaFile>,
        scope: &Scope,
        room: usize,
    ) -> Result<Arc<Encoded>, MediaError> {
        let rows = |answer| JobKind::Encode(room, answer);
        self.ask(file, scope, rows, |known| within(known, room))
            .await
    }

    /// Counts the tokens and rows of an image or a sound without encoding it.
    pub(crate) async fn count(
        &self,
        file: &Arc<MediaFile>,
        scope: &Scope,
    ) -> Result<usize, MediaError> {
        self.ask(file, scope, JobKind::Count, |known| Ok(known.tokens()))
            .await
    }

    /// Returns the result from the rows in the cache, or sends a job to the thread and waits for
    /// its result.
    async fn ask<T>(
        &self,
        file: &Arc<MediaFile>,
        scope: &Scope,
        job: impl FnOnce(oneshot::Sender<Result<T, MediaError>>) -> JobKind,
        from: impl FnOnce(Arc<Encoded>) -> Result<T, MediaError>,
    ) -> Result<T, MediaError> {
        let takes = if file.format.is_none() {
            self.facts.images
        } else {
            self.facts.sample_rate.is_some()
        };
        if !takes {
            return Err(MediaError::Unsupported);
        }
        let identity = identity(file, scope);
        if let Some(encoded) = lock(&self.cache).find(&identity) {
            return from(encoded);
        }
        let _place = self.waiting.try_acquire().map_err(|_| MediaError::Busy)?;
        let permit = Arc::clone(&self.decoding)
            .acquire_owned()
            .await
            .map_err(|_| MediaError::Failed(ENDED))?;
        // Another request may have encoded the same file in the meantime.
        if let Some(encoded) = lock(&self.cache).find(&identity) {
            return from(encoded);
        }
        let decoded = self.decode(file, permit).await?;
        let (answer, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(MediaError::Failed(ENDED))?;
        let job = Job {
            identity,
            decoded,
            kind: job(answer),
        };
        jobs.try_send(job).map_err(|error| match error {
            // This does not happen: the channel has room for all files that may be decoded.
            TrySendError::Full(_) => MediaError::Busy,
            TrySendError::Disconnected(_) => MediaError::Failed(ENDED),
        })?;
        result.await.map_err(|_| MediaError::Failed(ENDED))?
    }

    async fn decode(
        &self,
        file: &Arc<MediaFile>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Decoded, MediaError> {
        let (file, rate) = (Arc::clone(file), self.facts.sample_rate.unwrap_or_default());
        // Decoding continues even if the client leaves, so the permit moves into the closure.
        let decode = move || {
            let media = match &file.format {
                None => image::decode(&file.bytes).map(DecodedMedia::Image),
                Some(format) => sound::decode(&file.bytes, format, rate).map(DecodedMedia::Sound),
            };
            media.map(|media| Decoded {
                media,
                _permit: permit,
            })
        };
        let decoded = tokio::task::spawn_blocking(decode).await;
        decoded
            .map_err(|_| MediaError::InvalidFile("it cannot be decoded".to_owned()))?
            .map_err(MediaError::InvalidFile)
    }
}

impl Drop for ProjectorThread {
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

fn identity(file: &MediaFile, scope: &Scope) -> Identity {
    let mut hash = Sha256::new();
    if let Some(scope) = scope {
        hash.update(b"scope ");
        hash.update(scope.as_bytes());
        hash.update([0]);
    }
    hash.update([u8::from(file.format.is_some())]);
    hash.update(file.format.as_deref().unwrap_or_default());
    hash.update([0]);
    hash.update(&file.bytes);
    hash.finalize().into()
}
