//! The thread of the projector: it encodes images and sounds into rows.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use llama_cpp_2::mtmd::{MtmdBitmap, MtmdInputChunk, MtmdInputChunkType, MtmdInputChunks};
use llama_cpp_2::token::LlamaToken;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::cache::{Identity, Kept, lock};
use super::encoded::{Piece, Seen};
use super::job::{Answer, Job, Medium, Refused};
use crate::Token;
use crate::raw;

/// The maximum number of rows without causal attention that the engine's steps are enlarged for. An
/// image with more rows is refused.
const MOST_ROWS_AT_ONCE: u32 = 4096;

/// The sides of a trial image, with which the maximum number of rows of an image is found at the
/// start.
const TRIAL_SIDE: u32 = 2048;

/// The facts that do not change while it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) sees: bool,
    /// The sample rate (samples per second) of sound input, if supported.
    pub(crate) hears: Option<u32>,
    /// The number of rows that one step must have room for.
    pub(crate) rows_at_once: u32,
}

/// The state of the thread.
pub(super) struct Worker {
    pub(super) projector: raw::Projector,
    pub(super) kept: Arc<Mutex<Kept>>,
    /// The size of the model's vocabulary.
    pub(super) vocabulary: usize,
    /// The number of rows without causal attention that a step of the engine has room for.
    pub(super) rows_at_once: u32,
}

impl Worker {
    /// What the projector supports; `None` if it cannot process a blank trial image for this model.
    pub(super) fn facts(&self) -> Option<Facts> {
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

    pub(super) fn run(&mut self, jobs: &Receiver<Job>) {
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

/// Identifies one part of an image or sound.
fn part_of(identity: Identity, at: usize) -> Identity {
    let mut hash = Sha256::new();
    hash.update(identity);
    hash.update((at as u64).to_le_bytes());
    hash.finalize().into()
}

pub(super) fn within(seen: Arc<Seen>, room: usize) -> Result<Arc<Seen>, Refused> {
    let tokens = seen.tokens();
    if tokens > room {
        Err(Refused::TooLong { tokens })
    } else {
        Ok(seen)
    }
}
