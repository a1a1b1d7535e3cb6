//! [`Keys`]: sealing and opening.
//!
//! A sealed text is a version, the id of its key, a random nonce, and the ciphertext with its tag.
//! The purpose is authenticated with it and not stored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

use crate::file::{self, Secret};
use crate::{KeysError, NotOpened};

/// The first byte of a sealed text.
const VERSION: u8 = 1;

const ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;

/// A ring of keys. The first seals; each of them opens.
///
/// ```
/// use loggia_seal::{Keys, NotOpened};
///
/// let keys = Keys::random();
/// let sealed = keys.seal("reasoning", b"I think");
/// assert_eq!(keys.open("reasoning", &sealed).as_deref(), Ok(&b"I think"[..]));
/// assert_eq!(keys.open("compaction", &sealed), Err(NotOpened::Changed));
/// assert_eq!(Keys::random().open("reasoning", &sealed), Err(NotOpened::UnknownKey));
/// ```
pub struct Keys {
    ring: OnceLock<Vec<Key>>,
    /// The file that gets a key with the first sealed text, if it does not exist yet.
    file: Option<PathBuf>,
}

struct Key {
    id: [u8; ID],
    cipher: XChaCha20Poly1305,
}

impl Keys {
    /// Creates a ring of these keys. The first seals.
    ///
    /// # Errors
    /// Without a key, [`KeysError::Empty`].
    pub fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Result<Self, KeysError> {
        let keys: Vec<_> = keys.into_iter().collect();
        if keys.is_empty() {
            let path = PathBuf::new();
            return Err(KeysError::Empty { path });
        }
        Ok(Self::of(&keys))
    }

    /// Creates a ring of one random key, which exists only in memory: texts that it sealed cannot
    /// be opened after a restart.
    pub fn random() -> Self {
        Self::of(&[rand::random()])
    }

    /// Reads the keys of a file, which has one key a line, as base64 or hex.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let keys = file::read(path)?.ok_or_else(|| KeysError::Read {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        Ok(Self::of(&keys))
    }

    /// Reads the keys of a file. If there is no file, creates one with a random key.
    pub fn read_or_create(path: &Path) -> Result<Self, KeysError> {
        if let Some(keys) = file::read(path)? {
            return Ok(Self::of(&keys));
        }
        file::create(path)?;
        // Another process may have created it first.
        Self::read(path)
    }

    /// Reads the keys of a file. If there is no file, the first text that is sealed creates one. If
    /// it cannot be created then, the log has a warning, and the key is lost with the process.
    pub fn read_or_create_later(path: &Path) -> Result<Self, KeysError> {
        Ok(match file::read(path)? {
            Some(keys) => Self::of(&keys),
            None => Self {
                ring: OnceLock::new(),
                file: Some(path.to_owned()),
            },
        })
    }

    /// Seals a text for a purpose, as base64url.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.seal_bytes(purpose, plain))
    }

    /// Opens a text that was sealed for the same purpose.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Vec<u8>, NotOpened> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed);
        self.open_bytes(purpose, &sealed.map_err(|_| NotOpened::Malformed)?)
    }

    /// Seals a text for a purpose, as bytes.
    pub fn seal_bytes(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let key = &self.ring()[0];
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: purpose.as_bytes(),
        };
        let text = key.cipher.encrypt(&XNonce::from(nonce), payload);
        // The cipher refuses texts of more than 256 GiB only.
        let text = text.unwrap_or_default();
        let mut sealed = Vec::with_capacity(1 + ID + NONCE + text.len());
        sealed.push(VERSION);
        sealed.extend(key.id);
        sealed.extend(nonce);
        sealed.extend(text);
        sealed
    }

    /// Opens bytes that were sealed for the same purpose.
    pub fn open_bytes(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let parts = sealed.strip_prefix(&[VERSION]);
        let parts = parts.and_then(|rest| rest.split_first_chunk::<ID>());
        let parts = parts.and_then(|(id, rest)| Some((id, rest.split_first_chunk::<NONCE>()?)));
        let (id, (nonce, text)) = parts.ok_or(NotOpened::Malformed)?;
        if text.len() < TAG {
            return Err(NotOpened::Malformed);
        }
        let mut not_opened = NotOpened::UnknownKey;
        for key in self.known().iter().filter(|key| key.id == *id) {
            let payload = Payload {
                msg: text,
                aad: purpose.as_bytes(),
            };
            match key.cipher.decrypt(&XNonce::from(*nonce), payload) {
                Ok(plain) => return Ok(plain),
                Err(_) => not_opened = NotOpened::Changed,
            }
        }
        Err(not_opened)
    }

    /// Whether the ring has the key of sealed bytes, or of their beginning.
    pub fn has_key_of(&self, sealed: &[u8]) -> bool {
        let rest = sealed.strip_prefix(&[VERSION]);
        let id = rest.and_then(|rest| rest.first_chunk::<ID>());
        id.is_some_and(|id| self.known().iter().any(|key| key.id == *id))
    }

    fn of(keys: &[Secret]) -> Self {
        Self {
            ring: OnceLock::from(keys.iter().map(Key::new).collect::<Vec<_>>()),
            file: None,
        }
    }

    /// The keys; creates the file if necessary.
    fn ring(&self) -> &[Key] {
        self.ring.get_or_init(|| {
            let path = self.file.as_deref().unwrap_or(Path::new(""));
            match Self::read_or_create(path).map(|keys| keys.ring.into_inner()) {
                Ok(ring) => ring.unwrap_or_default(),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "using a key that is lost when this process ends");
                    vec![Key::new(&rand::random())]
                }
            }
        })
    }

    /// The keys, without creating the file.
    fn known(&self) -> &[Key] {
        match (&self.file, self.ring.get()) {
            (_, Some(ring)) => ring,
            // Another process may have created it since.
            (Some(path), None) if path.exists() => self.ring(),
            _ => &[],
        }
    }
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let digest = Sha256::new()
            .chain_update(b"loggia key id")
            .chain_update(secret)
            .finalize();
        let mut id = [0; ID];
        id.copy_from_slice(&digest[..ID]);
        Self {
            id,
            cipher: XChaCha20Poly1305::new(secret.into()),
        }
    }
}

/// Shows the ids of the keys, and no key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.ring.get().into_iter().flatten();
        let ids = keys.map(|key| key.id.map(|byte| format!("{byte:02x}")).concat());
        f.debug_struct("Keys")
            .field("ids", &ids.collect::<Vec<_>>())
            .field("file", &self.file)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(keys: &[u8]) -> Keys {
        Keys::new(keys.iter().map(|key| [*key; 32])).expect("keys")
    }

    #[test]
    fn a_text_is_opened_by_each_ring_with_its_key_and_by_no_other() {
        let sealed = ring(&[1, 2]).seal("purpose", b"text");
        for (keys, opened) in [
            (&[1][..], Ok(b"text".to_vec())),
            (&[3, 2, 1], Ok(b"text".to_vec())),
            (&[2], Err(NotOpened::UnknownKey)),
        ] {
            let ring = ring(keys);
            assert_eq!(ring.open("purpose", &sealed), opened, "{keys:?}");
            let bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("base64");
            assert_eq!(ring.has_key_of(&bytes[..5]), opened.is_ok());
            assert!(!ring.has_key_of(&bytes[..4]));
        }
        assert_eq!(
            ring(&[1]).open("other", &sealed),
            Err(NotOpened::Changed),
            "for another purpose"
        );
        assert!(Keys::new([]).is_err());
    }

    #[test]
    fn the_same_text_is_sealed_differently_each_time() {
        let keys = Keys::random();
        let (one, other) = (keys.seal("p", b""), keys.seal("p", b""));
        assert_ne!(one, other);
        assert_eq!(keys.open("p", &one), Ok(Vec::new()));
        assert!(!one.contains(['+', '/', '=']));
    }

    #[test]
    fn a_sealed_text_with_one_bit_changed_or_cut_anywhere_is_not_opened() {
        let keys = ring(&[1]);
        let sealed = keys.seal_bytes("p", b"text");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open_bytes("p", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            let cut = keys.open_bytes("p", &sealed[..length]);
            assert!(cut.is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_first_text_creates_the_file_and_others_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let (one, other) = (
            Keys::read_or_create_later(&path).expect("keys"),
            Keys::read_or_create_later(&path).expect("keys"),
        );
        let foreign = Keys::random().seal("p", b"text");
        assert_eq!(other.open("p", &foreign), Err(NotOpened::UnknownKey));
        assert!(!path.exists(), "nothing was sealed");
        let sealed = one.seal("p", b"text");
        assert!(path.exists());
        for keys in [other, Keys::read(&path).expect("keys")] {
            assert_eq!(keys.open("p", &sealed), Ok(b"text".to_vec()));
        }
    }

    #[test]
    fn a_file_that_cannot_be_created_costs_the_key_and_not_the_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let keys = Keys::read_or_create_later(&path.join("below")).expect("keys");
        std::fs::write(&path, "in the way").expect("a file");
        let sealed = keys.seal("p", b"text");
        assert_eq!(keys.open("p", &sealed), Ok(b"text".to_vec()));
    }

    #[test]
    fn no_key_is_shown() {
        let keys = Keys::new([*b"0123456789abcdef0123456789abcdef"]).expect("keys");
        let shown = format!("{keys:?} {keys:#?}");
        let secret = base64::engine::general_purpose::STANDARD.encode(b"0123456789abcdef");
        for form in ["0123456789abcdef", "30, 31", "48, 49", "3031", &secret] {
            assert!(!shown.contains(form), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(sealed in ".*", bytes: Vec<u8>, purpose: String) {
            let keys = ring(&[1]);
            let _ = keys.open(&purpose, &sealed);
            let _ = keys.open_bytes(&purpose, &bytes);
            let mut long = vec![VERSION];
            long.extend(keys.ring()[0].id);
            long.extend(&bytes);
            prop_assert!(keys.open_bytes(&purpose, &long).is_err());
            prop_assert_eq!(keys.open_bytes(&purpose, &keys.seal_bytes(&purpose, &bytes)), Ok(bytes));
        }
    }
}
