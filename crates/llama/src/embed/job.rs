//! What the callers send to the thread of the embedding engine.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Token;
use crate::error::EngineError;

/// Inputs that wait for their vectors.
pub(super) struct Job {
    pub(super) inputs: Vec<Vec<Token>>,
    /// The channel to the caller; closed when the caller has left.
    pub(super) answer: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
    /// The job's place in the queue, which is free again when the job ends.
    _place: Place,
}

/// A place in the queue. It is taken before the inputs are tokenized, so that requests waiting for
/// that are limited too.
pub(super) struct Place(
    #[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit,
);

impl Job {
    pub(super) fn new(
        inputs: Vec<Vec<Token>>,
        answer: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
        place: Place,
    ) -> Self {
        Self {
            inputs,
            answer,
            _place: place,
        }
    }
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(permit)
    }
}
