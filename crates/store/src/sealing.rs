//! Encryption of stored data: bodies are sealed before they are written and opened when they are
//! read. Ids, labels, names of models and times are not encrypted. `blobs/sealed.rs` encrypts the
//! contents of files.

use std::sync::Arc;

use loggia_api::store::StoreError;
use loggia_seal::{Keys, NotOpened};

use crate::sql::Row;

/// Whether and with which keys stored data is encrypted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sealing {
    /// The keys that open encrypted data.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Whether new data is encrypted.
    encrypts: bool,
}

/// Identifies where a sealed text is stored. A text that was sealed for one place cannot be opened
/// in another.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Object(&'a str),
    Item(&'a str),
    /// The text of a chunk: the id of its object, and its number.
    Chunk(&'a str, u64),
    /// The vector of a chunk.
    Vector(&'a str, u64),
}

impl Place<'_> {
    fn purpose(self) -> String {
        match self {
            Self::Object(id) => format!("store/object/{id}"),
            Self::Item(id) => format!("store/item/{id}"),
            Self::Chunk(id, number) => format!("store/chunk/{id}/{number}"),
            Self::Vector(id, number) => format!("store/vector/{id}/{number}"),
        }
    }
}

impl Sealing {
    pub(crate) fn new(keys: Arc<Keys>, encrypts: bool) -> Self {
        Self {
            keys: Some(keys),
            encrypts,
        }
    }

    /// The keys that encrypt new data, if it is encrypted.
    pub(crate) fn encrypting(&self) -> Option<&Arc<Keys>> {
        self.keys.as_ref().filter(|_| self.encrypts)
    }

    /// The columns `body` and `sealed` of a body.
    pub(crate) fn columns<'a>(
        &self,
        place: Place<'_>,
        body: &'a str,
    ) -> (&'a str, Option<Vec<u8>>) {
        match self.encrypting() {
            Some(keys) => {
                let sealed = keys.seal_bytes(&place.purpose(), body.as_bytes());
                ("", Some(sealed))
            }
            None => (body, None),
        }
    }

    /// Whether there is a key for a sealed body that begins like this.
    pub(crate) fn has_key_of(&self, sealed: &[u8]) -> bool {
        let keys = self.keys.as_ref();
        keys.is_some_and(|keys| keys.has_key_of(sealed))
    }

    /// Returns the bytes in the form in which they are stored.
    pub(crate) fn sealed(&self, place: Place<'_>, bytes: Vec<u8>) -> Vec<u8> {
        match self.encrypting() {
            Some(keys) => keys.seal_bytes(&place.purpose(), &bytes),
            None => bytes,
        }
    }

    /// Opens bytes that are sealed.
    pub(crate) fn opened(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let opened = match &self.keys {
            Some(keys) => keys.open_bytes(&place.purpose(), sealed),
            None => Err(NotOpened::UnknownKey),
        };
        opened.map_err(|error| StoreError::Unavailable {
            cause: format!("a stored text cannot be decrypted: {error}"),
        })
    }

    /// The body of a row.
    pub(crate) fn body(&self, place: Place<'_>, row: &Row) -> Result<String, StoreError> {
        let Some(sealed) = row.optional_bytes("sealed")? else {
            return row.text("body");
        };
        String::from_utf8(self.opened(place, sealed)?).map_err(|_| StoreError::Unavailable {
            cause: "a stored text is damaged".to_owned(),
        })
    }
}
