//! The keys of a [`KeyStore`], in memory: a request asks no database. They are read again when
//! their version has grown, which is looked for several times a second.

use std::collections::HashMap;
use std::sync::Arc;

use loggia_api::store::{KeyStore, StoreError, StoredKey, StoredSecret};
use loggia_api::{Caller, ModelPattern};

use super::holder::{Budget, Holder, Scope, Scopes};
use super::secret::{self, KeySettings, Prefix};
use super::{KeyDigest, Keys};
use crate::StoreFollower;
use crate::clock::unix_seconds;

/// The keys of a store as they were at one moment.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_prefix: HashMap<Prefix, LiveKey>,
    by_name: HashMap<Arc<str>, Arc<Holder>>,
    budgets: HashMap<String, Arc<Budget>>,
    /// Whether there is a key, revoked ones included.
    pub(super) has_any: bool,
    pub(super) has_limits: bool,
    /// Whether the table was read from a store.
    was_read: bool,
}

#[derive(Debug)]
struct LiveKey {
    digest: KeyDigest,
    /// When a key that was rotated ends.
    until: Option<i64>,
    holder: Arc<Holder>,
}

impl Table {
    /// The holder of a key. A text whose prefix no key has costs a look into a table.
    pub(super) fn holder(&self, key: &[u8]) -> Option<&Arc<Holder>> {
        let found = self.by_prefix.get(secret::prefix(key)?)?;
        let is_same = bool::from(found.digest.same(&KeyDigest::of(key)));
        let ends = [found.until, found.holder.expires];
        let end = ends.into_iter().flatten().min();
        (is_same && end.is_none_or(|end| unix_seconds() < end)).then_some(&found.holder)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Holder>> {
        let holder = self.by_name.get(name)?;
        holder
            .expires
            .is_none_or(|end| unix_seconds() < end)
            .then_some(holder)
    }

    /// The table of a store that cannot be read.
    fn unread() -> Self {
        Self {
            has_any: true,
            ..Self::default()
        }
    }

    /// A table that says whether there are keys and limits.
    #[cfg(test)]
    pub(super) fn with_keys(has_keys: bool) -> Self {
        Self {
            has_any: has_keys,
            has_limits: has_keys,
            ..Self::default()
        }
    }

    /// Builds a table. Budgets are taken over from the earlier table, because requests refer to
    /// them.
    fn of(stored: Vec<StoredKey>, earlier: &Self) -> Self {
        let mut table = Self {
            has_any: !stored.is_empty(),
            was_read: true,
            ..Self::default()
        };
        for key in stored.into_iter().filter(|key| key.revoked.is_none()) {
            let Some(holder) = holder(&key, earlier) else {
                tracing::warn!(
                    key = key.name,
                    "a stored API key is refused, because its settings cannot be read"
                );
                continue;
            };
            let holder = Arc::new(holder);
            if let Some(budget) = &holder.budget {
                table.budgets.insert(key.id.clone(), Arc::clone(budget));
            }
            table.has_limits |= holder.limits.is_some() || holder.budget.is_some();
            table.add(&key.secret, None, &holder);
            if let Some(earlier) = &key.earlier {
                table.add(&earlier.secret, Some(earlier.until), &holder);
            }
            table
                .by_name
                .insert(Arc::clone(&holder.caller.name), holder);
        }
        table
    }

    fn add(&mut self, secret: &StoredSecret, until: Option<i64>, holder: &Arc<Holder>) {
        let prefix = secret.prefix.as_bytes().try_into();
        if let (Ok(prefix), Some(digest)) = (prefix, KeyDigest::from_hex(&secret.digest)) {
            let holder = Arc::clone(holder);
            let key = LiveKey {
                digest,
                until,
                holder,
            };
            self.by_prefix.insert(prefix, key);
        }
    }
}

/// The holder of a stored key. `None` if its settings cannot be read: a later version may have
/// written them, with restrictions that this version does not know.
fn holder(key: &StoredKey, earlier: &Table) -> Option<Holder> {
    let settings: KeySettings = serde_json::from_str(&key.settings).ok()?;
    let models = settings.models.map(|models| {
        let patterns = models.iter().map(|model| model.parse::<ModelPattern>());
        patterns.collect::<Result<Arc<[_]>, _>>()
    });
    let budget = settings.budget.map(|tokens| {
        if let Some(budget) = earlier.budgets.get(&key.id) {
            budget.renew(tokens, key.used);
            Arc::clone(budget)
        } else {
            Arc::new(Budget::new(&key.id, tokens, key.used))
        }
    });
    let scopes = settings.scopes.map_or(Scopes::DEFAULT, Scopes::from_iter);
    Some(Holder {
        caller: Caller {
            name: key.name.as_str().into(),
            strictness: None,
            models: models.transpose().ok()?,
            may_delete_models: settings.may_delete_models,
            may_have_priority: scopes.contain(Scope::Priority),
        },
        scopes,
        limits: settings.limits.map(Arc::new),
        budget,
        expires: key.expires,
    })
}

impl Keys {
    /// Reads the keys of a store. Call this before the first request: if it fails, every request is
    /// refused without a key until it has succeeded once.
    pub async fn load(&self, store: &dyn KeyStore) -> Result<(), StoreError> {
        let stored = match store.keys().await {
            Ok(stored) => stored,
            Err(error) => {
                // There may be keys, so every request needs one.
                self.update(|live| {
                    if !live.table.was_read {
                        live.table = Arc::new(Table::unread());
                    }
                });
                return Err(error);
            }
        };
        let table = Table::of(stored, &self.live().table);
        for name in table.by_name.keys() {
            if self.is_configured(name) {
                tracing::warn!(
                    key = &**name,
                    "an API key of the configuration and a stored one have the same name, so they share stored objects and limits"
                );
            }
        }
        self.update(|live| live.table = Arc::new(table));
        Ok(())
    }

    /// Reads the keys of a store whenever they have changed, and stores the usage of keys. This
    /// never ends. While the store is unavailable, the keys that were read last are valid.
    pub async fn follow(self, store: Arc<dyn KeyStore>) {
        let mut follower = StoreFollower::new();
        loop {
            let version = || store.key_version();
            let warn = |error| tracing::warn!(%error, "API keys cannot be read; those that were read last are valid");
            if follower.look(version, || self.load(&*store), warn).await {
                self.save_use(&*store).await;
            }
        }
    }

    async fn save_use(&self, store: &dyn KeyStore) {
        let budgets: Vec<_> = self.live().table.budgets.values().cloned().collect();
        for budget in budgets {
            let tokens = budget.take_unsaved();
            if tokens == 0 {
                continue;
            }
            match store.add_key_use(&budget.id, tokens).await {
                Ok(stored) => budget.saved(stored),
                Err(error) => {
                    budget.not_saved(tokens);
                    tracing::debug!(%error, "the use of an API key could not be stored");
                }
            }
        }
    }
}
