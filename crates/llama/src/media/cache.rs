//! A cache of the projector's recent output. The next turn of a conversation, and the other choices
//! of a request, need not encode an image again. Pure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::encoded::Encoded;

/// The maximum size of the cache in bytes. This is enough for some fifty images of 256 rows for a
/// model of 2 billion parameters, or for twenty large images.
const MOST_BYTES: usize = 64 << 20;

/// Identifies an image or sound, by a hash of the file's bytes and of how they are decoded.
pub(crate) type Identity = [u8; 32];

/// The cache. The most recently used entry is the last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    encoded: VecDeque<(Identity, Arc<Encoded>)>,
    bytes: usize,
}

impl Cache {
    /// Returns the output for an image or sound, if it is in the cache.
    pub(super) fn find(&mut self, identity: &Identity) -> Option<Arc<Encoded>> {
        let at = self
            .encoded
            .iter()
            .position(|(known, _)| known == identity)?;
        let found = self.encoded.remove(at)?;
        let encoded = Arc::clone(&found.1);
        self.encoded.push_back(found);
        Some(encoded)
    }

    /// Stores an output, and removes the least recently used ones. An output that is larger than
    /// the whole cache is not stored.
    pub(super) fn insert(&mut self, identity: Identity, encoded: &Arc<Encoded>) {
        self.insert_within(identity, encoded, MOST_BYTES);
    }

    fn insert_within(&mut self, identity: Identity, encoded: &Arc<Encoded>, most: usize) {
        if encoded.bytes() > most || self.find(&identity).is_some() {
            return;
        }
        self.bytes += encoded.bytes();
        self.encoded.push_back((identity, Arc::clone(encoded)));
        while self.bytes > most {
            let Some((_, oldest)) = self.encoded.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

/// Locks the cache.
pub(super) fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    // No code that holds the lock can panic halfway through a change, so a poisoned lock is still
    // valid.
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::encoded::Piece;

    /// An output with rows of `bytes` bytes.
    fn encoded(bytes: usize) -> Arc<Encoded> {
        let values = vec![0.0; bytes / 4];
        let rows = crate::raw::Rows {
            width: values.len(),
            values,
            places: vec![[0; 4]],
            positions: 1,
            causal: true,
            identity: [0; 32],
        };
        Arc::new(Encoded {
            pieces: vec![Piece::Rows(Arc::new(rows))],
        })
    }

    #[test]
    fn what_nobody_has_used_for_longest_is_let_go() {
        let mut cache = Cache::default();
        for identity in [1_u8, 2, 3] {
            cache.insert_within([identity; 32], &encoded(40), 100);
            assert!(cache.find(&[1; 32]).is_some(), "used each time");
        }
        assert!(cache.find(&[2; 32]).is_none());
        assert!(cache.find(&[3; 32]).is_some());
        assert_eq!(cache.bytes, 80);
    }

    #[test]
    fn what_is_too_large_and_what_is_there_already_change_nothing() {
        let mut cache = Cache::default();
        cache.insert_within([1; 32], &encoded(40), 100);
        cache.insert_within([1; 32], &encoded(40), 100);
        cache.insert_within([2; 32], &encoded(400), 100);
        assert_eq!((cache.bytes, cache.encoded.len()), (40, 1));
    }
}
