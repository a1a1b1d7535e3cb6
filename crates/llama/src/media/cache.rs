//! A cache of recent projector output, so that the next turn of a conversation and the choices of
//! one request need not encode an image again. Pure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::encoded::Seen;

/// The maximum size in bytes: some fifty images of 256 rows for a model of 2 billion parameters, or
/// twenty large ones.
const MOST_BYTES: usize = 64 << 20;

/// Identifies an image or sound: a hash of the file's bytes and of how they are decoded.
pub(crate) type Identity = [u8; 32];

/// The cache. Its entries are in order of use; the most recently used is the last.
#[derive(Debug, Default)]
pub(super) struct Kept {
    seen: VecDeque<(Identity, Arc<Seen>)>,
    bytes: usize,
}

impl Kept {
    /// The output for an image or sound, if it is in the cache.
    pub(super) fn find(&mut self, identity: &Identity) -> Option<Arc<Seen>> {
        let at = self.seen.iter().position(|(known, _)| known == identity)?;
        let found = self.seen.remove(at)?;
        let seen = Arc::clone(&found.1);
        self.seen.push_back(found);
        Some(seen)
    }

    /// Stores an output, and removes the least recently used ones. An output that is larger than
    /// the whole cache is not stored.
    pub(super) fn keep(&mut self, identity: Identity, seen: &Arc<Seen>) {
        self.keep_within(identity, seen, MOST_BYTES);
    }

    fn keep_within(&mut self, identity: Identity, seen: &Arc<Seen>, most: usize) {
        if seen.bytes() > most || self.find(&identity).is_some() {
            return;
        }
        self.bytes += seen.bytes();
        self.seen.push_back((identity, Arc::clone(seen)));
        while self.bytes > most {
            let Some((_, oldest)) = self.seen.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

/// Locks the cache.
pub(super) fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // No code that holds the lock can panic halfway through a change.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::encoded::Piece;

    /// An output with rows of `bytes` bytes.
    fn seen(bytes: usize) -> Arc<Seen> {
        let values = vec![0.0; bytes / 4];
        let rows = crate::raw::Rows {
            width: values.len(),
            values,
            places: vec![[0; 4]],
            positions: 1,
            causal: true,
            identity: [0; 32],
        };
        Arc::new(Seen {
            pieces: vec![Piece::Rows(Arc::new(rows))],
        })
    }

    #[test]
    fn what_nobody_has_used_for_longest_is_let_go() {
        let mut kept = Kept::default();
        for identity in [1_u8, 2, 3] {
            kept.keep_within([identity; 32], &seen(40), 100);
            assert!(kept.find(&[1; 32]).is_some(), "used each time");
        }
        assert!(kept.find(&[2; 32]).is_none());
        assert!(kept.find(&[3; 32]).is_some());
        assert_eq!(kept.bytes, 80);
    }

    #[test]
    fn what_is_too_large_and_what_is_there_already_change_nothing() {
        let mut kept = Kept::default();
        kept.keep_within([1; 32], &seen(40), 100);
        kept.keep_within([1; 32], &seen(40), 100);
        kept.keep_within([2; 32], &seen(400), 100);
        assert_eq!((kept.bytes, kept.seen.len()), (40, 1));
    }
}
