//! The jobs that the projector's interface sends to its thread, and their errors.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::cache::Identity;
use super::encoded::Encoded;
use super::image::DecodedImage;

/// A job for the thread.
pub(super) struct Job {
    pub(super) identity: Identity,
    pub(super) decoded: Decoded,
    pub(super) kind: JobKind,
}

/// The kind of a job, with the channel for its result.
pub(super) enum JobKind {
    /// Encodes the file. The number is the maximum number of its tokens and rows.
    Encode(usize, oneshot::Sender<Result<Arc<Encoded>, MediaError>>),
    /// Counts the tokens and rows of the file, without encoding it.
    Count(oneshot::Sender<Result<usize, MediaError>>),
}

impl JobKind {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Encode(_, answer) => answer.is_closed(),
            Self::Count(answer) => answer.is_closed(),
        }
    }
}

/// The pixels or samples of a file, with the semaphore permit for their memory. The permit stays
/// with the data even after the client has left.
pub(super) struct Decoded {
    pub(super) media: DecodedMedia,
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) enum DecodedMedia {
    Image(DecodedImage),
    Sound(Vec<f32>),
}

/// Why an image or sound cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MediaError {
    /// The file is invalid. The text is a part of an error message.
    InvalidFile(String),
    /// The projector does not accept this kind of input.
    Unsupported,
    /// The image or sound takes more tokens than there is room for.
    TooLong { tokens: usize },
    /// Too many requests are waiting.
    Busy,
    /// The projector failed, or has stopped.
    Failed(&'static str),
}
