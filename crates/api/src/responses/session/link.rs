//! [`Link`]: what connects one response with its session.

use std::sync::{Arc, Mutex, PoisonError};

use super::local::{Local, Previous};
use crate::answer::interrupt::Interrupt;
use crate::store::Item;

/// The connection between one response and its session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) local: Arc<Local>,
    pub(crate) interrupt: Arc<Interrupt>,
    begun: Mutex<Option<Begun>>,
}

/// The parts of a response that the session keeps if it is not stored.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) previous: Previous,
    pub(super) input: Vec<Item>,
}

impl Link {
    pub(super) fn new(local: Arc<Local>) -> Self {
        Self {
            local,
            interrupt: Arc::default(),
            begun: Mutex::default(),
        }
    }

    /// Notes what an unstored response continues, and its own input.
    pub(crate) fn begin(&self, previous: Option<&str>, input: Vec<Item>) {
        let previous = self.local.previous(previous);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun = Some(Begun { previous, input });
    }

    pub(super) fn take_begun(&self) -> Option<Begun> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.take()
    }
}
