//! A compiled grammar, of which each answer gets its own copy.

use std::sync::{Arc, Mutex, PoisonError};

use super::machine::Machine;

/// A compiled grammar.
#[derive(Clone)]
pub(crate) struct Grammar(Arc<Mutex<Machine>>);

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammar")
    }
}

impl Grammar {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    /// The grammar's state at the beginning of an answer.
    pub(super) fn begin(&self) -> Machine {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
