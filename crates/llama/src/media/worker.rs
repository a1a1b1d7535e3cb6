//! The thread of the projector: it encodes images and sounds into rows.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use llama_cpp_2::mtmd::{MtmdBitmap, MtmdInputChunk, MtmdInputChunkType, MtmdInputChunks};
use llama_cpp_2::token::LlamaToken;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::cache::{Cache, Identity, lock};
use super::encoded::{Encoded, Piece};
use super::job::{DecodedMedia, Job, JobKind, MediaError};
use crate::Token;
use crate::raw;

/// The maximum number of rows without causal attention that the engine's steps are enlarged for. An
/// image with more rows is refused.
const MOST_ROWS_AT_ONCE: u32 = 4096;

/// The length of both sides of a trial image. It is used to find the maximum number of rows of an
/// image when the projector is loaded.
const TRIAL_SIDE: u32 = 2048;

/// The properties of a projector, which do not change while it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProjectorFacts {
    pub(crate) images: bool,
    /// The sample rate (samples per second) of sound input. `None` if sounds are not supported.
    pub(crate) sample_rate: Option<u32>,
    /// The number of rows that a step of the engine must have room for.
    pub(crate) rows_at_once: u32,
}

/// The state of the projector's thread.
pub(super) struct Worker {
    pub(super) projector: raw::Projector,
    pub(super) cache: Arc<Mutex<Cache>>,
    /// The size of the model's vocabulary.
    pub(super) vocabulary: usize,
    /// The number of rows without causal attention that a step of the engine has room for.
    pub(super) rows_at_once: u32,
}

impl Worker {
    /// Finds the properties of the projector. Returns `None` if it cannot process a blank trial
    /// image for this model.
    pub(super) fn facts(&self) -> Option<ProjectorFacts> {
        let largest = if self.projector.supports_images() {
            self.largest_part()?
        } else {
            0
        };
        let at_once = if self.projector.encodes_in_one_step() {
            largest
        } else {
            0
        };
        let rows_at_once = u32::try_from(at_once)
            .unwrap_or(u32::MAX)
            .min(MOST_ROWS_AT_ONCE);
        Some(ProjectorFacts {
            images: self.projector.supports_images(),
            sample_rate: self.projector.sample_rate(),
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

    /// Returns the tokens of a text part. llama.cpp writes -1 for a token that this kind of
    /// projector needs around its images and that the model lacks. A step with such a token would
    /// fail for all requests in it.
    fn tokens(&self, part: &MtmdInputChunk<'_>) -> Option<Vec<Token>> {
        let known = |token: &LlamaToken| {
            let token = Token::try_from(token.0)
                .ok()
                .filter(|&token| (token as usize) < self.vocabulary);
            if token.is_none() {
                tracing::warn!(
                    "the model lacks a token that its projector needs around images or sounds"
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

    pub(super) fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(Job {
            identity,
            decoded,
            kind,
        }) = jobs.recv()
        {
            if kind.is_closed() {
                continue;
            }
            let (room, answer) = match kind {
                JobKind::Encode(room, answer) => (room, answer),
                JobKind::Count(answer) => {
                    let chunks = self.chunks(&decoded.media);
                    // The client may have left.
                    let _ = answer.send(chunks.map(|chunks| chunks.total_tokens()));
                    continue;
                }
            };
            // Another request may have encoded the same file in the meantime.
            let known = lock(&self.cache).find(&identity);
            let encoded = match known {
                Some(encoded) => within(encoded, room),
                None => self
                    .encode(&decoded.media, identity, room, &answer)
                    .map(Arc::new),
            };
            drop(decoded);
            if let Ok(encoded) = &encoded {
                lock(&self.cache).insert(identity, encoded);
            }
            // The client may have left.
            let _ = answer.send(encoded);
        }
    }

    /// Splits an image or sound into parts, which still have to be encoded.
    fn chunks(&self, media: &DecodedMedia) -> Result<MtmdInputChunks, MediaError> {
        let bitmap = match media {
            DecodedMedia::Image(image) => {
                MtmdBitmap::from_image_data(image.width, image.height, &image.rgb)
            }
            DecodedMedia::Sound(samples) => MtmdBitmap::from_audio_data(samples),
        };
        let bitmap = bitmap
            .map_err(|_| MediaError::Failed("llama.cpp does not accept this image or sound"))?;
        let chunks = self.projector.chunks(&bitmap);
        chunks.ok_or_else(|| {
            MediaError::InvalidFile("the model's projector does not accept it".to_owned())
        })
    }

    fn encode(
        &mut self,
        media: &DecodedMedia,
        identity: Identity,
        room: usize,
        answer: &oneshot::Sender<Result<Arc<Encoded>, MediaError>>,
    ) -> Result<Encoded, MediaError> {
        let chunks = self.chunks(media)?;
        let tokens = chunks.total_tokens();
        if tokens > room {
            return Err(MediaError::TooLong { tokens });
        }
        let mut pieces = Vec::with_capacity(chunks.len());
        for at in 0..chunks.len() {
            let Some(chunk) = chunks.get(at) else { break };
            // Encoding a chunk may take seconds, so the client may have left in the meantime.
            if answer.is_closed() {
                return Err(MediaError::Failed("the client has left"));
            }
            pieces.push(if chunk.chunk_type() == MtmdInputChunkType::Text {
                Piece::Tokens(self.tokens(&chunk).ok_or(MediaError::Failed(
                    "the model lacks a token that the projector needs",
                ))?)
            } else {
                let rows = self.projector.encode(&chunk, part_of(identity, at));
                let rows = rows.ok_or(MediaError::Failed("the projector could not encode it"))?;
                if !rows.causal && rows.places.len() > self.rows_at_once as usize {
                    return Err(MediaError::InvalidFile(
                        "it has more rows than one step of the engine has room for".to_owned(),
                    ));
                }
                Piece::Rows(Arc::new(rows))
            });
        }
        Ok(Encoded { pieces })
    }
}

/// Identifies one part of an image or sound.
fn part_of(identity: Identity, at: usize) -> Identity {
    let mut hash = Sha256::new();
    hash.update(identity);
    hash.update((at as u64).to_le_bytes());
    hash.finalize().into()
}

pub(super) fn within(encoded: Arc<Encoded>, room: usize) -> Result<Arc<Encoded>, MediaError> {
    let tokens = encoded.tokens();
    if tokens > room {
        Err(MediaError::TooLong { tokens })
    } else {
        Ok(encoded)
    }
}
