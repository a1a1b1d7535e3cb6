//! The jobs that callers send to the engine's thread.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Token;
use crate::error::EngineError;

/// A request to the engine's thread: inputs, and where to send their vectors.
pub(super) struct Job {
    pub(super) inputs: Vec<Vec<Token>>,
    /// The channel to the caller. It is closed when the caller has left.
    pub(super) answer: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
    /// The job's place in the queue. It is free again when the request is over.
    _place: QueuePlace,
}

/// A place in the queue. A request takes it before its inputs are tokenized, so that requests
/// waiting for the tokenizer are limited too, and keeps it for all of its jobs.
#[derive(Clone)]
pub(super) struct QueuePlace(
    #[expect(dead_code, reason = "dropping it returns the permit")] Arc<OwnedSemaphorePermit>,
);

impl Job {
    pub(super) fn new(
        inputs: Vec<Vec<Token>>,
        answer: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
        place: QueuePlace,
    ) -> Self {
        Self {
            inputs,
            answer,
            _place: place,
        }
    }
}

impl QueuePlace {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}
