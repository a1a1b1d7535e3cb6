//! The projector on its own thread: it encodes images and sounds into rows, and no stream waits for
//! it meanwhile.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use llama_cpp_2::mtmd::{MtmdBitmap, MtmdInputChunk, MtmdInputChunkType, MtmdInputChunks};
use llama_cpp_2::token::LlamaToken;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::cache::{Identity, Kept};
use super::encoded::{Piece, Seen};
use super::image::{self, Picture};
use super::marks::Asked;
use super::sound;
use crate::Token;
use crate::error::LoadError;
use crate::model::Model;
use crate::options::LlamaOptions;
use crate::raw;

/// The maximum number of files that are being decoded, wait for the projector, or are being
/// encoded: each may take hundreds of megabytes.
const DECODED_AT_ONCE: usize = 2;

/// The maximum number of rows without causal attention that the engine's steps are enlarged for. An
/// image with more rows is refused.
const MOST_ROWS_AT_ONCE: u32 = 4096;

/// The sides of a trial image, with which the maximum number of rows of an image is found at the
/// start.
const TRIAL_SIDE: u32 = 2048;

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

/// The facts that do not change while it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) sees: bool,
    /// The sample rate (samples per second) of sound input, if supported.
    pub(crate) hears: Option<u32>,
    /// The number of rows that one step must have room for.
    pub(crate) rows_at_once: u32,
}

/// Why an image or sound cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The file is invalid; the text is for an error message.
    File(String),
    /// The projector does not accept this kind of input.
    Kind,
    /// It takes more tokens than there is room for.
    TooLong { tokens: usize },
    /// Too many requests are waiting.
    Busy,
    /// The projector failed, or has stopped.
    Failed(&'static str),
}

/// A job for the thread.
struct Job {
    identity: Identity,
    decoded: Decoded,
    answer: Answer,
}

/// What a job is to find out, and where its result goes.
enum Answer {
    /// The rows, of which there is room for this number.
    Rows(usize, oneshot::Sender<Result<Arc<Seen>, Refused>>),
    /// Their number.
    Count(oneshot::Sender<Result<usize, Refused>>),
}

impl Answer {
    fn is_closed(&self) -> bool {
        match self {
            Self::Rows(_, answer) => answer.is_closed(),
            Self::Count(answer) => answer.is_closed(),
        }
    }
}

/// A file's pixels or samples, with the semaphore permit for their memory. The permit stays with
/// the data wherever it goes, even after the client has left.
struct Decoded {
    medium: Medium,
    _leave: OwnedSemaphorePermit,
}

enum Medium {
    Picture(Picture),
    Sound(Vec<f32>),
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

/// Identifies one part of an image or sound.
fn part_of(identity: Identity, at: usize) -> Identity {
    let mut hash = Sha256::new();
    hash.update(identity);
    hash.update((at as u64).to_le_bytes());
    hash.finalize().into()
}

fn within(seen: Arc<Seen>, room: usize) -> Result<Arc<Seen>, Refused> {
    let tokens = seen.tokens();
    if tokens > room {
        Err(Refused::TooLong { tokens })
    } else {
        Ok(seen)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // No code that holds the lock can panic halfway through a change.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of the thread.
struct Worker {
    projector: raw::Projector,
    kept: Arc<Mutex<Kept>>,
    /// The size of the model's vocabulary.
    vocabulary: usize,
    /// The number of rows without causal attention that a step of the engine has room for.
    rows_at_once: u32,
}

impl Worker {
    /// What the projector supports; `None` if it cannot process a blank trial image for this model.
    fn facts(&self) -> Option<Facts> {
        let largest = if self.projector.sees() {
            self.largest_part()?
        } else {
            0
        };
        let at_once = if self.projector.sees_all_at_once() {
            largest
        } else {
            0
        };
        let rows_at_once = u32::try_from(at_once)
            .unwrap_or(u32::MAX)
            .min(MOST_ROWS_AT_ONCE);
        Some(Facts {
            sees: self.projector.sees(),
            hears: self.projector.hears(),
            rows_at_once,
        })
    }

    /// The maximum number of rows of one part of an image.
    fn largest_part(&self) -> Option<usize> {
        let blank = vec![0; TRIAL_SIDE as usize * TRIAL_SIDE as usize * 3];
        let bitmap = MtmdBitmap::from_image_data(TRIAL_SIDE, TRIAL_SIDE, &blank).ok()?;
        let chunks = self.projector.chunks(&bitmap)?;
        let mut largest = 0;
        for at in 0..chunks.len() {
            let part = chunks.get(at)?;
            match part.chunk_type() {
                MtmdInputChunkType::Text => drop(self.tokens(&part)?),
                _ => largest = largest.max(part.n_tokens()),
            }
        }
        Some(largest)
    }

    /// The tokens of a text part. llama.cpp writes -1 if the model lacks a token that this kind of
    /// projector needs around its images. A step with such a token would fail for all requests in
    /// it.
    fn tokens(&self, part: &MtmdInputChunk<'_>) -> Option<Vec<Token>> {
        let known = |token: &LlamaToken| {
            let token = Token::try_from(token.0)
                .ok()
                .filter(|&token| (token as usize) < self.vocabulary);
            if token.is_none() {
                tracing::warn!(
                    "the model lacks a token that its projector wants around pictures or sounds"
                );
            }
            token
        };
        part.text_tokens()
            .unwrap_or_default()
            .iter()
            .map(known)
            .collect()
    }

    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(Job {
            identity,
            decoded,
            answer,
        }) = jobs.recv()
        {
            if answer.is_closed() {
                continue;
            }
            let (room, answer) = match answer {
                Answer::Rows(room, answer) => (room, answer),
                Answer::Count(answer) => {
                    let chunks = self.chunks(&decoded.medium);
                    // The client may have left.
                    let _ = answer.send(chunks.map(|chunks| chunks.total_tokens()));
                    continue;
                }
            };
            // Another request may have asked for the same file meanwhile.
            let known = lock(&self.kept).find(&identity);
            let seen = match known {
                Some(seen) => within(seen, room),
                None => self
                    .see(&decoded.medium, identity, room, &answer)
                    .map(Arc::new),
            };
            drop(decoded);
            if let Ok(seen) = &seen {
                lock(&self.kept).keep(identity, seen);
            }
            // The client may have left.
            let _ = answer.send(seen);
        }
    }

    /// The parts of an image or sound, which still have to be encoded.
    fn chunks(&self, medium: &Medium) -> Result<MtmdInputChunks, Refused> {
        let bitmap = match medium {
            Medium::Picture(picture) => {
                MtmdBitmap::from_image_data(picture.width, picture.height, &picture.rgb)
            }
            Medium::Sound(samples) => MtmdBitmap::from_audio_data(samples),
        };
        let bitmap =
            bitmap.map_err(|_| Refused::Failed("llama.cpp takes no such picture or sound"))?;
        let chunks = self.projector.chunks(&bitmap);
        chunks.ok_or_else(|| Refused::File("the model's projector does not take it".to_owned()))
    }

    fn see(
        &mut self,
        medium: &Medium,
        identity: Identity,
        room: usize,
        answer: &oneshot::Sender<Result<Arc<Seen>, Refused>>,
    ) -> Result<Seen, Refused> {
        let chunks = self.chunks(medium)?;
        let tokens = chunks.total_tokens();
        if tokens > room {
            return Err(Refused::TooLong { tokens });
        }
        let mut pieces = Vec::with_capacity(chunks.len());
        for at in 0..chunks.len() {
            let Some(chunk) = chunks.get(at) else { break };
            // Each may take seconds.
            if answer.is_closed() {
                return Err(Refused::Failed("nobody waits for it"));
            }
            pieces.push(if chunk.chunk_type() == MtmdInputChunkType::Text {
                Piece::Tokens(
                    self.tokens(&chunk)
                        .ok_or(Refused::Failed("the model lacks a token for this picture"))?,
                )
            } else {
                let rows = self.projector.encode(&chunk, part_of(identity, at));
                let rows = rows.ok_or(Refused::Failed("the projector could not encode it"))?;
                if !rows.causal && rows.places.len() > self.rows_at_once as usize {
                    return Err(Refused::File(
                        "the model would have to read more of it at once than it can".to_owned(),
                    ));
                }
                Piece::Rows(Arc::new(rows))
            });
        }
        Ok(Seen { pieces })
    }
}
