//! Starting an engine: what the pool needs of it, whether it is a process or a test's.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Backend};
use loggia_wire::openai::Model;
use tokio::sync::Notify;

use super::model_spec::ModelSpec;

/// What starts engines: processes, or what a test has for them.
pub(super) trait Start: Send + Sync {
    /// Starts one, and waits until it has loaded its model; or says why it cannot.
    fn start(&self, spec: &ModelSpec) -> BoxFuture<'static, Result<Started, String>>;
}

/// An engine that has loaded its model. It ends when its last call and `backend` are dropped.
pub(super) struct Started {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) known: Vec<(Model, Arc<Abilities>)>,
    /// How it ended, when it has.
    pub(super) exited: BoxFuture<'static, String>,
    /// Ends it at once.
    pub(super) kill: Arc<Notify>,
}
