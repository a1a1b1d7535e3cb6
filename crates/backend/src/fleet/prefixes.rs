//! Remembers which node had the beginning of a conversation, as hashes. No text is kept.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher};
use std::io;

use crate::Work;

/// How many conversations are remembered, in each of two generations.
const REMEMBERED: usize = 8192;

/// The hashes of a conversation's beginnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginnings(Vec<u64>);

/// The nodes of conversations. The older generation is dropped when the younger one is full.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Random for each process, so that no client can find two conversations with one hash.
    hashing: RandomState,
    young: HashMap<u64, usize>,
    old: HashMap<u64, usize>,
}

impl Prefixes {
    /// Returns the hashes of the beginnings of this work: after each message of a chat.
    pub(super) fn beginnings(hashing: &RandomState, work: &Work) -> Beginnings {
        let Work::Chat(request) = work else {
            return Beginnings::default();
        };
        let mut hasher = hashing.build_hasher();
        hasher.write(request.model.as_bytes());
        let after = |message| {
            serde_json::to_writer(Hashing(&mut hasher), message).ok()?;
            Some(hasher.finish())
        };
        Beginnings(request.messages.iter().map_while(after).collect())
    }

    pub(super) fn hashing(&self) -> RandomState {
        self.hashing.clone()
    }

    /// Returns the node that had the longest of these beginnings.
    pub(super) fn node(&self, beginnings: &Beginnings) -> Option<usize> {
        let of = |hash| self.young.get(hash).or_else(|| self.old.get(hash));
        beginnings.0.iter().rev().find_map(of).copied()
    }

    /// Remembers that this node has the whole conversation.
    pub(super) fn remember(&mut self, beginnings: &Beginnings, node: usize) {
        let Some(&whole) = beginnings.0.last() else {
            return;
        };
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(whole, node);
    }
}

/// A writer that hashes its input.
struct Hashing<'a, H>(&'a mut H);

impl<H: Hasher> io::Write for Hashing<'_, H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn chat(texts: &[&str]) -> Work {
        let messages: Vec<_> = texts
            .iter()
            .map(|text| json!({"role": "user", "content": text}))
            .collect();
        let request = json!({"model": "m", "messages": messages});
        Work::Chat(Arc::new(serde_json::from_value(request).unwrap()))
    }

    #[test]
    fn a_conversation_that_goes_on_is_found_by_its_beginning() {
        let mut prefixes = Prefixes::default();
        let hashing = prefixes.hashing();
        let of = |texts: &[&str]| Prefixes::beginnings(&hashing, &chat(texts));
        prefixes.remember(&of(&["a", "b"]), 1);
        assert_eq!(prefixes.node(&of(&["a", "b", "c", "d"])), Some(1));
        assert_eq!(prefixes.node(&of(&["a"])), None, "it is shorter");
        assert_eq!(prefixes.node(&of(&["a", "x", "c"])), None);
        prefixes.remember(&of(&["a", "b", "c"]), 2);
        assert_eq!(prefixes.node(&of(&["a", "b", "c", "d"])), Some(2));
    }

    #[test]
    fn the_number_of_conversations_is_bounded() {
        let mut prefixes = Prefixes::default();
        for number in 0..100_000 {
            prefixes.remember(&Beginnings(vec![number]), 0);
        }
        assert!(prefixes.young.len() <= REMEMBERED && prefixes.old.len() <= REMEMBERED);
        assert_eq!(prefixes.node(&Beginnings(vec![99_999])), Some(0));
        assert_eq!(prefixes.node(&Beginnings(vec![0])), None);
    }
}
