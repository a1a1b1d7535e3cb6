//! The names of what has no effect, each once, in the order in which they were found.

use std::collections::HashSet;

/// A list without duplicates: a client can send as many names as its body has room for.
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

    /// The names.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }
}
