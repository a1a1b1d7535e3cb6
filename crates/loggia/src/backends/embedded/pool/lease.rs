//! A lease: the use of a loaded model.

use std::sync::Arc;

use loggia_backend::Backend;
use tokio::time::Instant;

use super::{Engine, Pool};

/// The use of a loaded model. The model is not unloaded before the lease is dropped.
pub(in super::super) struct Lease {
    pool: Arc<Pool>,
    at: usize,
    process: u64,
    engine: Engine,
}

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, at: usize, process: u64, engine: Engine) -> Self {
        Self {
            pool,
            at,
            process,
            engine,
        }
    }

    pub(in super::super) fn backend(&self) -> &dyn Backend {
        &*self.engine.backend
    }

    /// Reports that the engine has ended, so that no other request gets it.
    pub(in super::super) fn is_lost(&self) {
        self.pool.ended(self.at, self.process, "it does not answer");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.lock()[self.at].release(self.process, Instant::now());
        self.pool.changed.notify_waiters();
    }
}
