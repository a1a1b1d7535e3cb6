//! A file of the prompt cache: a snapshot, and what is needed to check that it is the right one and
//! whole.
//!
//! ```text
//! magic and version   8 bytes
//! identity of model and engine   32 bytes
//! digest of the scope   32 bytes
//! cut_from, number of tokens   4 bytes each
//! length of the state   8 bytes
//! checksum of the state   16 bytes
//! tokens   4 bytes each
//! checksum of everything above   16 bytes
//! state
//! ```
//!
//! Numbers are little-endian. The checksums find damage; they do not protect against somebody who
//! may write to the folder.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::Token;
use crate::engine::generation::Scope;
use crate::engine::prompt_cache::Snapshot;
use crate::state_bytes::StateBytes;

const MAGIC: [u8; 8] = *b"LGPROMP\x01";

/// The bytes before the tokens.
const FIXED: usize = 8 + 32 + 32 + 4 + 4 + 8 + 16;

/// The maximum number of tokens of a file that is read: more than any context has.
const MOST_TOKENS: u32 = 1 << 30;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// Everything in a file except for the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The model, the adapter, the engine and its sizes.
    pub(super) identity: Digest,
    pub(super) scope: Digest,
    pub(super) cut_from: usize,
    pub(super) tokens: Vec<Token>,
    state_bytes: u64,
    state_sum: u128,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(&'static str),
}

/// The digest of a scope. A file does not have the name of the API key.
pub(super) fn scope_digest(scope: &Scope) -> Digest {
    let Some(name) = scope else {
        return [0; 32];
    };
    let mut hash = Sha256::new();
    hash.update(b"scope ");
    hash.update(name.as_bytes());
    hash.finalize().into()
}

/// The first half of a digest as a name.
pub(super) fn hex(digest: &Digest) -> String {
    let half = digest[..16].iter();
    let number = half.fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
    format!("{number:032x}")
}

impl Header {
    pub(super) fn of(snapshot: &Snapshot, identity: Digest) -> Self {
        Self {
            identity,
            scope: scope_digest(&snapshot.scope),
            cut_from: snapshot.cut_from,
            tokens: snapshot.tokens.clone(),
            state_bytes: snapshot.state.len() as u64,
            state_sum: xxh3_128(&snapshot.state),
        }
    }

    /// The length of the file.
    pub(super) fn file_bytes(&self) -> u64 {
        (FIXED + 4 * self.tokens.len() + 16) as u64 + self.state_bytes
    }

    /// The name of the file: the same tokens of the same scope have the same name.
    pub(super) fn name(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.scope);
        for token in &self.tokens {
            hash.update(token.to_le_bytes());
        }
        hex(&hash.finalize().into())
    }

    /// Whether everything that the other file is good for can be restored from this one.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.cut_from <= other.cut_from
            && self.cut_from <= other.tokens.len()
            && self.tokens.starts_with(&other.tokens)
    }

    /// Reads and checks the header of a file of `length` bytes, for this identity.
    pub(super) fn read(
        input: &mut impl Read,
        length: u64,
        identity: &Digest,
    ) -> Result<Self, FileError> {
        let mut bytes = vec![0; FIXED];
        read_all(input, &mut bytes)?;
        let mut rest = &bytes[..];
        if take::<8>(&mut rest) != MAGIC {
            return Err(FileError::Damaged("it is not a file of the prompt cache"));
        }
        let own = take(&mut rest);
        let scope = take(&mut rest);
        let cut_from = u32::from_le_bytes(take(&mut rest));
        let count = u32::from_le_bytes(take(&mut rest));
        let state_bytes = u64::from_le_bytes(take(&mut rest));
        let state_sum = u128::from_le_bytes(take(&mut rest));
        let expected = (FIXED as u64 + 4 * u64::from(count) + 16).checked_add(state_bytes);
        if count == 0 || count > MOST_TOKENS || cut_from > count || expected != Some(length) {
            return Err(FileError::Damaged("its length is wrong"));
        }
        let mut tail = vec![0; 4 * count as usize + 16];
        read_all(input, &mut tail)?;
        let (tokens, sum) = tail.split_at(4 * count as usize);
        bytes.extend_from_slice(tokens);
        if xxh3_128(&bytes).to_le_bytes() != sum {
            return Err(FileError::Damaged("its header has a wrong checksum"));
        }
        if own != *identity {
            return Err(FileError::Damaged("it is of another model or engine"));
        }
        let token = |bytes: &[u8; 4]| Token::from_le_bytes(*bytes);
        Ok(Self {
            identity: own,
            scope,
            cut_from: cut_from as usize,
            tokens: tokens.as_chunks().0.iter().map(token).collect(),
            state_bytes,
            state_sum,
        })
    }

    /// Reads and checks the state, which follows the header.
    pub(super) fn read_state(&self, input: &mut impl Read) -> Result<StateBytes, FileError> {
        let length = usize::try_from(self.state_bytes);
        let length = length.map_err(|_| FileError::Damaged("its length is wrong"))?;
        let mut state = StateBytes::zeroed(length)?;
        read_all(input, &mut state)?;
        if xxh3_128(&state) != self.state_sum {
            return Err(FileError::Damaged("its state has a wrong checksum"));
        }
        Ok(state)
    }

    /// Writes a file with this header.
    pub(super) fn write(&self, state: &[u8], output: &mut impl Write) -> io::Result<()> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(FIXED + 4 * self.tokens.len() + 16);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.identity);
        bytes.extend_from_slice(&self.scope);
        bytes.extend_from_slice(&count(self.cut_from));
        bytes.extend_from_slice(&count(self.tokens.len()));
        bytes.extend_from_slice(&self.state_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.state_sum.to_le_bytes());
        for token in &self.tokens {
            bytes.extend_from_slice(&token.to_le_bytes());
        }
        let sum = xxh3_128(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        output.write_all(&bytes)?;
        output.write_all(state)?;
        output.flush()
    }
}

/// Fills the buffer. A file that ends before is damaged.
fn read_all(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), FileError> {
    input.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            FileError::Damaged("it is too short")
        } else {
            FileError::Io(error)
        }
    })
}

/// Takes the first bytes. The caller has made sure that there are as many.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_first_chunk().unwrap_or((&[0; N], &[]));
    *bytes = rest;
    *first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Digest = [7; 32];

    fn snapshot(tokens: &[Token]) -> Snapshot {
        Snapshot {
            tokens: tokens.to_vec(),
            scope: Some("bob".into()),
            cut_from: 1,
            state: (0..200).collect::<Vec<_>>().into(),
        }
    }

    fn file() -> Vec<u8> {
        let snapshot = snapshot(&[1, 2, 0x8000_0003]);
        let mut bytes = Vec::new();
        let header = Header::of(&snapshot, IDENTITY);
        header.write(&snapshot.state, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, header.file_bytes());
        bytes
    }

    fn read(mut bytes: &[u8]) -> Result<(Header, StateBytes), FileError> {
        let length = bytes.len() as u64;
        let header = Header::read(&mut bytes, length, &IDENTITY)?;
        let state = header.read_state(&mut bytes)?;
        Ok((header, state))
    }

    #[test]
    fn what_was_written_is_read() {
        let (header, state) = read(&file()).unwrap();
        let snapshot = snapshot(&[1, 2, 0x8000_0003]);
        assert_eq!(header, Header::of(&snapshot, IDENTITY));
        assert_eq!(state, snapshot.state);
    }

    #[test]
    fn a_file_of_another_model_is_refused() {
        let bytes = file();
        let refused = Header::read(&mut &bytes[..], bytes.len() as u64, &[8; 32]).unwrap_err();
        assert_eq!(refused.to_string(), "it is of another model or engine");
    }

    #[test]
    fn a_scope_and_the_tokens_make_the_name() {
        let name = |tokens: &[Token], scope: Option<&str>| {
            let snapshot = Snapshot {
                scope: scope.map(Into::into),
                ..snapshot(tokens)
            };
            Header::of(&snapshot, IDENTITY).name()
        };
        assert_eq!(name(&[1, 2], None), name(&[1, 2], None));
        assert_ne!(name(&[1, 2], None), name(&[1, 2], Some("bob")));
        assert_ne!(name(&[1, 2], None), name(&[1, 3], None));
    }

    proptest! {
        #[test]
        fn every_change_of_a_byte_is_noticed(at in 0..file().len(), by in 1..=u8::MAX) {
            let mut bytes = file();
            bytes[at] ^= by;
            prop_assert!(matches!(read(&bytes), Err(FileError::Damaged(_))));
        }

        #[test]
        fn every_other_length_is_noticed(length in 0..file().len(), more in 1..50_usize) {
            prop_assert!(matches!(read(&file()[..length]), Err(FileError::Damaged(_))));
            let mut bytes = file();
            bytes.resize(bytes.len() + more, 0);
            prop_assert!(matches!(read(&bytes), Err(FileError::Damaged(_))));
        }

        #[test]
        fn no_bytes_are_read_beyond_their_length(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let magic = [&MAGIC[..], &bytes].concat();
            prop_assert!(read(&magic).is_err());
        }
    }
}
