//! Memory for the states of conversations.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The size from which a state gets pages of its own. A rounded page is then at most a hundredth of
/// it, and few of the mappings that a process may have are taken.
const OWN_PAGES_FROM: usize = 512 * 1024;

/// The state of a conversation, as bytes. Large states have pages of their own, which go back to the
/// system when they are dropped. In the allocator's heap, states of all sizes that come and go leave
/// gaps that nothing else fits into: with a prompt cache of 64 MiB, the gaps had 63 MiB after half
/// an hour, and grew.
pub(crate) enum StateBytes {
    Heap(Vec<u8>),
    Pages(MmapMut),
}

impl StateBytes {
    /// Returns as many zeros. Fails if there is no memory for them.
    pub(crate) fn zeroed(length: usize) -> io::Result<Self> {
        if length >= OWN_PAGES_FROM {
            return MmapMut::map_anon(length).map(Self::Pages);
        }
        Ok(Self::Heap(vec![0; length]))
    }
}

impl Deref for StateBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

impl DerefMut for StateBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages,
        }
    }
}

impl PartialEq for StateBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for StateBytes {}

impl fmt::Debug for StateBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
impl From<Vec<u8>> for StateBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Heap(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_states_are_zeros_that_can_be_written() {
        for length in [0, 1, OWN_PAGES_FROM - 1, OWN_PAGES_FROM, OWN_PAGES_FROM + 1] {
            let mut state = StateBytes::zeroed(length).unwrap();
            assert_eq!(state.len(), length);
            assert!(state.iter().all(|&byte| byte == 0));
            state.fill(7);
            assert_eq!(state, StateBytes::from(vec![7; length]));
        }
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        assert!(StateBytes::zeroed(usize::MAX / 2).is_err());
    }
}
