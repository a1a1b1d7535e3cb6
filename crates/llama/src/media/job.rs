//! What the interface of the projector sends to its thread, and the errors of a job.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::cache::Identity;
use super::encoded::Seen;
use super::image::Picture;

/// A job for the thread.
pub(super) struct Job {
    pub(super) identity: Identity,
    pub(super) decoded: Decoded,
    pub(super) answer: Answer,
}

/// What a job is to find out, and where its result goes.
pub(super) enum Answer {
    /// The rows, of which there is room for this number.
    Rows(usize, oneshot::Sender<Result<Arc<Seen>, Refused>>),
    /// Their number.
    Count(oneshot::Sender<Result<usize, Refused>>),
}

impl Answer {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Rows(_, answer) => answer.is_closed(),
            Self::Count(answer) => answer.is_closed(),
        }
    }
}

/// A file's pixels or samples, with the semaphore permit for their memory. The permit stays with
/// the data wherever it goes, even after the client has left.
pub(super) struct Decoded {
    pub(super) medium: Medium,
    pub(super) _leave: OwnedSemaphorePermit,
}

pub(super) enum Medium {
    Picture(Picture),
    Sound(Vec<f32>),
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
