//! The names of fields that have no effect, without duplicates, in the order in which they were
//! found.

use std::collections::HashSet;

/// A list without duplicates. It must be cheap to add to: a client can send very many names.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    names: Vec<String>,
    known: HashSet<String>,
}

impl Ignored {
    /// Adds a name.
    pub(crate) fn add(&mut self, name: String) {
        if self.known.insert(name.clone()) {
            self.names.push(name);
        }
    }

    /// Returns the names.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }
}
