//! API keys, over every kind of store.

use std::sync::Arc;

use loggia_api::store::{
    EarlierSecret, KeyStore, MemoryKeyStore, StoreError, StoredKey, StoredSecret,
};
use loggia_store::{Retention, SqlStore};

use crate::postgres;

fn secret(text: &str) -> StoredSecret {
    StoredSecret {
        prefix: format!("sk-{text}"),
        digest: text.repeat(8),
    }
}

fn key(id: &str, name: &str) -> StoredKey {
    StoredKey {
        id: id.to_owned(),
        name: name.to_owned(),
        secret: secret(id),
        earlier: None,
        settings: r#"{"models":["a"]}"#.to_owned(),
        created: 1_700_000_000,
        expires: None,
        revoked: None,
        used: 0,
    }
}

async fn a_key_lives_until_it_is_revoked(store: &dyn KeyStore) {
    assert_eq!(store.keys().await, Ok(Vec::new()));
    assert_eq!(store.key_version().await, Ok(0));
    let mut last = 0;
    let mut grown = async |what: &str| {
        let version = store.key_version().await.expect("a version");
        assert!(version > last, "{what}");
        last = version;
    };
    let expiring = StoredKey {
        expires: Some(1_800_000_000),
        ..key("2", "bob")
    };
    store.create_key(key("1", "alice")).await.expect("a key");
    grown("created").await;
    store.create_key(expiring.clone()).await.expect("a key");
    grown("created").await;
    let taken = store.create_key(key("3", "alice")).await;
    assert!(matches!(taken, Err(StoreError::Duplicate { .. })));
    assert_eq!(
        store.keys().await,
        Ok(vec![key("1", "alice"), expiring.clone()])
    );

    let earlier = EarlierSecret {
        secret: secret("1"),
        until: 1_750_000_000,
    };
    let rotated = store.rotate_key("1", secret("new"), Some(earlier.clone()));
    rotated.await.expect("rotated");
    grown("rotated").await;
    let changed = store.change_key("1", "{}".to_owned());
    changed.await.expect("changed");
    grown("changed").await;
    assert_eq!(store.add_key_use("1", 5).await, Ok(5));
    assert_eq!(store.add_key_use("1", 7).await, Ok(12));
    let mut alice = StoredKey {
        secret: secret("new"),
        earlier: Some(earlier),
        settings: "{}".to_owned(),
        used: 12,
        ..key("1", "alice")
    };
    assert_eq!(
        store.keys().await,
        Ok(vec![alice.clone(), expiring.clone()])
    );

    store.revoke_key("1", 1_760_000_000).await.expect("revoked");
    grown("revoked").await;
    alice.revoked = Some(1_760_000_000);
    assert_eq!(
        store.keys().await,
        Ok(vec![alice.clone(), expiring.clone()])
    );
    let gone = Err(StoreError::NotFound);
    assert_eq!(store.revoke_key("1", 1_770_000_000).await, gone);
    assert_eq!(store.rotate_key("1", secret("x"), None).await, gone);
    assert_eq!(store.change_key("1", "x".to_owned()).await, gone);
    assert_eq!(store.revoke_key("nobody", 1).await, gone);
    assert_eq!(
        store.add_key_use("nobody", 1).await,
        Err(StoreError::NotFound)
    );
    assert_eq!(store.keys().await, Ok(vec![alice, expiring]));
    // The name is free again.
    let again = store.create_key(key("4", "alice")).await;
    again.expect("a key with the name of a revoked one");
}

#[tokio::test]
async fn a_key_in_memory_lives_until_it_is_revoked() {
    a_key_lives_until_it_is_revoked(&MemoryKeyStore::default()).await;
}

#[tokio::test]
async fn a_key_in_a_file_lives_until_it_is_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = SqlStore::in_file(&path, Retention::default());
    assert_eq!(store.keys().await, Ok(Vec::new()));
    assert_eq!(store.key_version().await, Ok(0));
    assert!(!path.exists(), "looking for keys makes no file");
    a_key_lives_until_it_is_revoked(&store).await;

    // Another program has the same file open.
    let other = SqlStore::in_file(&path, Retention::default());
    assert_eq!(other.keys().await, store.keys().await);
    other.revoke_key("2", 5).await.expect("revoked");
    assert_eq!(other.key_version().await, store.key_version().await);
}

#[tokio::test]
async fn a_key_in_postgresql_lives_until_it_is_revoked() {
    let Some(url) = postgres::database().await else {
        return;
    };
    let store = SqlStore::in_database(&url, Retention::default()).expect("an address");
    let store: Arc<dyn KeyStore> = Arc::new(store);
    a_key_lives_until_it_is_revoked(&*store).await;
}
