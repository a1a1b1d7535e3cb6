//! The projector on a thread of its own: it makes rows of pictures and sounds, and no stream waits
//! for it meanwhile.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use llama_cpp_2::mtmd::{MtmdBitmap, MtmdInputChunk, MtmdInputChunkType};
use llama_cpp_2::token::LlamaToken;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::asked::Asked;
use super::image::{self, Picture};
use super::kept::{Identity, Kept};
use super::sound;
use crate::Token;
use crate::error::LoadError;
use crate::model::Model;
use crate::options::LlamaOptions;
use crate::raw::{self, Rows};

/// Files that are decoded, or wait decoded for the projector, or are at it: each may take hundreds
/// of megabytes.
const DECODED_AT_ONCE: usize = 2;

/// The most rows that the engine's steps are made larger for, where they see each other. What has
/// more is refused when it is shown.
const MOST_ROWS_AT_ONCE: u32 = 4096;

/// The sides of a picture that tells at the start how many rows of one there are at most.
const TRIAL_SIDE: u32 = 2048;

/// What a model can see and hear with, and the thread that does it. Dropping it ends the thread,
/// after what it is at.
#[derive(Debug)]
pub(crate) struct Media {
    facts: Facts,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    kept: Arc<Mutex<Kept>>,
    /// Places of those whose file is being looked at, or waits for that.
    waiting: Semaphore,
    decoding: Arc<Semaphore>,
}

/// What does not change while it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) sees: bool,
    /// Samples a second, where it hears.
    pub(crate) hears: Option<u32>,
    /// How many rows one step must have room for.
    pub(crate) rows_at_once: u32,
}

/// A picture or a sound as the model reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) pieces: Vec<Piece>,
}

/// A part of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// What tells the model where it begins and ends.
    Tokens(Vec<Token>),
    Rows(Arc<Rows>),
}

/// Why there is nothing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What is wrong with the file, in the words of an error message.
    File(String),
    /// The projector takes none of its kind.
    Kind,
    /// It takes more tokens than there is room for.
    TooLong { tokens: usize },
    /// Too many wait already.
    Busy,
    /// The projector failed, or has ended.
    Failed(&'static str),
}

/// What is asked of the thread.
struct Job {
    identity: Identity,
    decoded: Decoded,
    /// Tokens that it may take.
    room: usize,
    answer: oneshot::Sender<Result<Arc<Seen>, Refused>>,
}

/// A file's pixels or samples, and the leave to hold them: it goes with them wherever they go, also
/// after the client has left.
struct Decoded {
    medium: Medium,
    _leave: OwnedSemaphorePermit,
}

enum Medium {
    Picture(Picture),
    Sound(Vec<f32>),
}

impl Seen {
    /// How many places it takes in a prompt.
    pub(crate) fn tokens(&self) -> usize {
        self.pieces.iter().map(Piece::tokens).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Tokens(tokens) => tokens.len() * 4,
            Piece::Rows(rows) => rows.values.len() * 4,
        };
        self.pieces.iter().map(of).sum()
    }
}

impl Piece {
    fn tokens(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Rows(rows) => rows.places.len(),
        }
    }
}

impl Media {
    /// Loads the projector that the options name, where they name one, on a thread of its own, and
    /// waits until it is there.
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

    /// What it can do.
    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    /// A picture or a sound as the model reads it, which may take no more than so many tokens.
    pub(crate) async fn see(&self, asked: &Arc<Asked>, room: usize) -> Result<Arc<Seen>, Refused> {
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
            return within(seen, room);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Refused::Busy)?;
        let leave = Arc::clone(&self.decoding)
            .acquire_owned()
            .await
            .map_err(|_| Refused::Failed(ENDED))?;
        // Someone else may have shown the same meanwhile.
        if let Some(seen) = lock(&self.kept).find(&identity) {
            return within(seen, room);
        }
        let decoded = self.decode(asked, leave).await?;
        let (answer, seen) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(Refused::Failed(ENDED))?;
        jobs.try_send(Job {
            identity,
            decoded,
            room,
            answer,
        })
        .map_err(|error| match error {
            // There is room for all that may be decoded.
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Failed(ENDED),
        })?;
        seen.await.map_err(|_| Refused::Failed(ENDED))?
    }

    async fn decode(
        &self,
        asked: &Arc<Asked>,
        leave: OwnedSemaphorePermit,
    ) -> Result<Decoded, Refused> {
        let (asked, rate) = (Arc::clone(asked), self.facts.hears.unwrap_or_default());
        // It goes on to its end although the client may leave: so does the leave.
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
            tracing::error!("the projector's thread had panicked");
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

/// Stands for one part of it.
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
    // No code that holds the lock can panic half way through a change.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Worker {
    projector: raw::Projector,
    kept: Arc<Mutex<Kept>>,
    /// How many tokens the model knows.
    vocabulary: usize,
    /// The engine's steps have room for so many rows that see each other.
    rows_at_once: u32,
}

impl Worker {
    /// What it can do; `None` where a picture, a blank one, cannot be had of it for this model.
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

    /// The most rows of one part of a picture.
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

    /// The tokens of a part that is text. llama.cpp writes -1 where the model has no token that a
    /// projector of this kind wants around its pictures, and a step with such a token fails for
    /// everybody in it.
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
            room,
            answer,
        }) = jobs.recv()
        {
            if answer.is_closed() {
                continue;
            }
            // Someone else may have asked for the same meanwhile.
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
            // Who asked may have left.
            let _ = answer.send(seen);
        }
    }

    fn see(
        &mut self,
        medium: &Medium,
        identity: Identity,
        room: usize,
        answer: &oneshot::Sender<Result<Arc<Seen>, Refused>>,
    ) -> Result<Seen, Refused> {
        let bitmap = match medium {
            Medium::Picture(picture) => {
                MtmdBitmap::from_image_data(picture.width, picture.height, &picture.rgb)
            }
            Medium::Sound(samples) => MtmdBitmap::from_audio_data(samples),
        };
        let bitmap =
            bitmap.map_err(|_| Refused::Failed("llama.cpp takes no such picture or sound"))?;
        let chunks = self.projector.chunks(&bitmap);
        let chunks = chunks
            .ok_or_else(|| Refused::File("the model's projector does not take it".to_owned()))?;
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
