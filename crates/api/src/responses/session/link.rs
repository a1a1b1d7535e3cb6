//! [`Link`]: the connection between one response and its session.

use std::sync::{Arc, Mutex, PoisonError};

use super::local::{Local, Previous};
use crate::answer::interrupt::Interrupt;
use crate::store::Item;

/// The connection between one response and its session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) local: Arc<Local>,
    pub(crate) interrupt: Arc<Interrupt>,
    parts: Mutex<Option<ResponseParts>>,
}

/// The parts of a response that the session keeps if it is not stored.
#[derive(Debug)]
pub(super) struct ResponseParts {
    pub(super) previous: Previous,
    pub(super) input: Vec<Item>,
}

impl Link {
    pub(super) fn new(local: Arc<Local>) -> Self {
        Self {
            local,
            interrupt: Arc::default(),
            parts: Mutex::default(),
        }
    }

    /// Notes the predecessor of an unstored response, and its own input.
    pub(crate) fn note_parts(&self, previous: Option<&str>, input: Vec<Item>) {
        let previous = self.local.previous(previous);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        *parts = Some(ResponseParts { previous, input });
    }

    pub(super) fn take_parts(&self) -> Option<ResponseParts> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.take()
    }
}
