//! A cache of compiled grammars by their sources. The least recently used ones are removed first.

use super::compiled::Grammar;
use super::source::Source;

/// The maximum number of cached grammars.
const MOST: usize = 64;

/// The maximum size of all sources in bytes. The memory of a grammar grows with the size of its
/// source.
const MOST_BYTES: usize = 512 << 10;

/// The cache. The most recently used entry is the last.
#[derive(Default)]
pub(super) struct Cache(Vec<(Source, Grammar)>);

impl Cache {
    pub(super) fn get(&mut self, source: &Source) -> Option<Grammar> {
        let place = self.0.iter().position(|(known, _)| known == source)?;
        self.0[place..].rotate_left(1);
        self.0.last().map(|(_, grammar)| grammar.clone())
    }

    pub(super) fn put(&mut self, source: Source, grammar: Grammar) {
        self.0.retain(|(known, _)| *known != source);
        self.0.push((source, grammar));
        while self.0.len() > MOST || self.0.len() > 1 && self.bytes() > MOST_BYTES {
            self.0.remove(0);
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(source, _)| source.size()).sum()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
