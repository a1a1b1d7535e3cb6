//! Starting an engine: the pool's interface to processes, and to the engines of tests.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Backend};
use loggia_wire::openai::Model;
use tokio::sync::Notify;

use super::model_spec::ModelSpec;

/// Starts engines.
pub(super) trait Start: Send + Sync {
    /// Starts an engine and waits until it has loaded its model. The error is the reason.
    fn start(&self, spec: &ModelSpec) -> BoxFuture<'static, Result<Started, String>>;
}

/// An engine that has loaded its model. It ends when the last call and `backend` are dropped.
pub(super) struct Started {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) known: Vec<(Model, Arc<Abilities>)>,
    /// Resolves when the process has ended, to a description of how it ended.
    pub(super) exited: BoxFuture<'static, String>,
    /// Notify it to kill the process.
    pub(super) kill: Arc<Notify>,
}
