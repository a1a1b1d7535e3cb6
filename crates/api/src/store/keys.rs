//! The trait [`KeyStore`] keeps API keys that are created while servers run. What a key allows is
//! text here; the server that checks keys reads it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::ready;

use super::StoreError;

/// Keeps API keys. The text of a key is never stored, only its digest.
///
/// Revoked keys are kept, so that a list shows them, and so that a server whose last key was
/// revoked does not become open to everybody.
pub trait KeyStore: Send + Sync {
    /// Returns all keys, in the order of their creation.
    fn keys(&self) -> BoxFuture<'_, Result<Vec<StoredKey>, StoreError>>;

    /// Returns a number that grows with every change to a key, but not with its use. It is read
    /// several times a second, so this must be cheap.
    fn key_version(&self) -> BoxFuture<'_, Result<i64, StoreError>>;

    /// Stores a new key. [`StoreError::Duplicate`] if a key that is not revoked has the name.
    fn create_key(&self, key: StoredKey) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Replaces the digest of a key that is not revoked, and sets the secret that remains valid for
    /// a while.
    fn rotate_key<'a>(
        &'a self,
        id: &'a str,
        secret: StoredSecret,
        earlier: Option<EarlierSecret>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Replaces the scopes and limits of a key that is not revoked.
    fn change_key<'a>(
        &'a self,
        id: &'a str,
        settings: String,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Revokes a key, for good. [`StoreError::NotFound`] if it is revoked already.
    fn revoke_key<'a>(&'a self, id: &'a str, at: i64) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds tokens to the use of a key. Returns its whole use, that of other servers included.
    fn add_key_use<'a>(
        &'a self,
        id: &'a str,
        tokens: u64,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;
}

/// An API key that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id, by which commands and routes change it.
    pub id: String,
    /// The key's name, which owns the objects that are stored for it.
    pub name: String,
    /// The part of the key by which it is found, and the digest of the whole key.
    pub secret: StoredSecret,
    /// The key before the last rotation, as long as it is valid.
    pub earlier: Option<EarlierSecret>,
    /// The key's scopes and limits, as JSON.
    pub settings: String,
    /// When the key was created, in Unix seconds.
    pub created: i64,
    /// When the key expires, in Unix seconds.
    pub expires: Option<i64>,
    /// When the key was revoked, in Unix seconds.
    pub revoked: Option<i64>,
    /// The tokens that the key has used.
    pub used: u64,
}

/// The parts of the text of a key that are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// The beginning of the key, which is not secret.
    pub prefix: String,
    /// The SHA-256 digest of the key, as 64 hex digits.
    pub digest: String,
}

/// A key that was replaced, and is valid for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierSecret {
    /// The stored parts of the key's text.
    pub secret: StoredSecret,
    /// When the replaced key becomes invalid, in Unix seconds.
    pub until: i64,
}

/// Keeps API keys in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryKeyStore(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    keys: Vec<StoredKey>,
    version: i64,
}

impl MemoryKeyStore {
    /// Nothing panics while it holds the lock, so the lock is never poisoned.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a key that is not revoked.
    fn change(&self, id: &str, change: impl FnOnce(&mut StoredKey)) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let mut keys = kept.keys.iter_mut();
        let key = keys.find(|key| key.id == id && key.revoked.is_none());
        change(key.ok_or(StoreError::NotFound)?);
        kept.version += 1;
        Ok(())
    }
}

impl KeyStore for MemoryKeyStore {
    fn keys(&self) -> BoxFuture<'_, Result<Vec<StoredKey>, StoreError>> {
        ready(Ok(self.kept().keys.clone())).boxed()
    }

    fn key_version(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        ready(Ok(self.kept().version)).boxed()
    }

    fn create_key(&self, key: StoredKey) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut kept = self.kept();
        let mut others = kept.keys.iter();
        let done = if others
            .any(|other| other.id == key.id || other.name == key.name && other.revoked.is_none())
        {
            Err(StoreError::Duplicate { id: String::new() })
        } else {
            kept.keys.push(key);
            kept.version += 1;
            Ok(())
        };
        ready(done).boxed()
    }

    fn rotate_key<'a>(
        &'a self,
        id: &'a str,
        secret: StoredSecret,
        earlier: Option<EarlierSecret>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let done = self.change(id, |key| {
            key.secret = secret;
            key.earlier = earlier;
        });
        ready(done).boxed()
    }

    fn change_key<'a>(
        &'a self,
        id: &'a str,
        settings: String,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.change(id, |key| key.settings = settings)).boxed()
    }

    fn revoke_key<'a>(&'a self, id: &'a str, at: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.change(id, |key| key.revoked = Some(at))).boxed()
    }

    fn add_key_use<'a>(
        &'a self,
        id: &'a str,
        tokens: u64,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let mut kept = self.kept();
        let key = kept.keys.iter_mut().find(|key| key.id == id);
        let used = key.map(|key| {
            key.used = key.used.saturating_add(tokens);
            key.used
        });
        ready(used.ok_or(StoreError::NotFound)).boxed()
    }
}
