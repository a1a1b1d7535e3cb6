//! A cache of token counts for which an engine had to process the prompt. Agents count the same
//! prompt several times, and then send it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// The maximum number of cached counts. Each takes about 70 bytes.
const MOST: usize = 4096;

/// How long a count is cached. The time is limited because a model can be replaced under the same
/// name.
const BELIEVED_FOR: Duration = Duration::from_mins(5);

/// Identifies a prompt: a hash of the request that would be sent.
pub(crate) type Prompt = [u8; 32];

/// Returns the identity of a prompt for a model with this fingerprint.
pub(crate) fn prompt(fingerprint: &str, request: &[u8]) -> Prompt {
    let mut hash = Sha256::new();
    hash.update(fingerprint.len().to_le_bytes());
    hash.update(fingerprint);
    hash.update(request);
    hash.finalize().into()
}

/// The cached counts by their prompt, with the time when they were stored.
#[derive(Debug, Default)]
pub(crate) struct CountCache(Mutex<HashMap<Prompt, (Instant, u64)>>);

impl CountCache {
    /// Returns the count of this prompt, if it is known.
    pub(crate) fn find(&self, prompt: &Prompt) -> Option<u64> {
        let counts = self.counts();
        let (since, count) = counts.get(prompt)?;
        (since.elapsed() < BELIEVED_FOR).then_some(*count)
    }

    /// Stores a count.
    pub(crate) fn keep(&self, prompt: Prompt, count: u64) {
        let mut counts = self.counts();
        if counts.len() >= MOST {
            counts.retain(|_, (since, _)| since.elapsed() < BELIEVED_FOR);
        }
        if counts.len() >= MOST {
            counts.clear();
        }
        counts.insert(prompt, (Instant::now(), count));
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Prompt, (Instant, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_prompt_alone_and_their_number_is_limited() {
        let kept = CountCache::default();
        kept.keep(prompt("fp", b"a"), 3);
        assert_eq!(kept.find(&prompt("fp", b"a")), Some(3));
        for other in [
            prompt("f", b"pa"),
            prompt("other", b"a"),
            prompt("fp", b"b"),
        ] {
            assert_eq!(kept.find(&other), None);
        }
        for number in 0..2 * MOST {
            kept.keep(prompt("fp", &number.to_le_bytes()), 1);
        }
        assert!(kept.counts().len() <= MOST);
    }
}
