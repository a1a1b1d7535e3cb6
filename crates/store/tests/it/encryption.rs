//! Encrypted texts: what is in the files, and which keys read it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use loggia_api::store::{Change, Filter, Item, Kind, Order, Owner, Side, Store, StoreError};
use loggia_seal::Keys;
use loggia_store::{Retention, SqlStore};

use crate::postgres::database;
use crate::suite::key;
use crate::{at, conversation, items, page, response};

const SECRET: &str = "the hedgehog sleeps in the shed";

fn ring(keys: &[u8]) -> Arc<Keys> {
    Arc::new(Keys::new(keys.iter().map(|key| [*key; 32])).expect("keys"))
}

fn open(path: &Path, keys: &[u8], encrypts: bool) -> SqlStore {
    SqlStore::in_file(path, Retention::default()).with_keys(ring(keys), encrypts)
}

fn secret(id: &str, side: Side) -> Item {
    Item {
        id: id.to_owned(),
        body: format!("\"{SECRET}\""),
        side,
    }
}

/// Whether the secret is in any file of the folder. A database that is closed at the same time
/// moves its log into the file and deletes it: then all are read again.
fn is_found(folder: &Path) -> bool {
    loop {
        match find(folder) {
            Ok(is_found) => return is_found,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn find(folder: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let bytes = std::fs::read(entry?.path())?;
        let mut windows = bytes.windows(SECRET.len());
        if windows.any(|window| window == SECRET.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
async fn no_text_is_in_the_files_of_an_encrypted_store() {
    for encrypts in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(&folder.path().join("state.db"), &[1], encrypts);
        let owner = key("a");
        let mut object = response("r", None);
        object.body = format!("{{\"text\":\"{SECRET}\"}}");
        let its = [Side::Input, Side::Output, Side::Stream].map(|side| secret("i", side));
        let created = store.create(&owner, object.clone(), its.to_vec()).await;
        assert_eq!(created, Ok(()));
        let replaced = Change::Replace {
            kind: Kind::Response,
            id: "r".to_owned(),
            body: object.body.clone(),
            items: vec![secret("j", Side::Output)],
            needs: None,
        };
        assert_eq!(store.write(&owner, vec![replaced]).await, Ok(()));
        // The log has been read, and the file when it was closed.
        assert_eq!(is_found(folder.path()), !encrypts);
        let there = at(&owner, Kind::Response, "r");
        assert_eq!(store.object(there).await, Ok(object));
        drop(store);
        assert_eq!(is_found(folder.path()), !encrypts);
    }
}

#[tokio::test]
async fn each_key_of_the_ring_reads_and_without_the_key_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let owner = Owner::NOBODY;
    for (keys, encrypts, id) in [
        (&[1][..], false, "plain"),
        (&[1], true, "first"),
        (&[2, 1], true, "second"),
    ] {
        let store = open(&path, keys, encrypts);
        let created = store.create(&owner, conversation(id), items(&["i"])).await;
        assert_eq!(created, Ok(()));
    }
    let all = page(9, Order::Ascending, None);
    let read = async |store: &SqlStore, id: &str| {
        let there = at(&owner, Kind::Conversation, id);
        let object = store.object(there).await?;
        let found = store.items(there, Side::Input, &all).await?;
        assert_eq!((object, found.data), (conversation(id), items(&["i"])));
        Ok(())
    };
    let unreadable = |read: Result<(), StoreError>| {
        matches!(read, Err(StoreError::Unavailable { cause })
            if cause.contains("the key that sealed it is not among the keys of this server"))
    };
    for (keys, readable) in [
        (&[2, 1][..], ["plain", "first", "second"].as_slice()),
        (&[1, 2], &["plain", "first", "second"]),
        (&[1], &["plain", "first"]),
        (&[2], &["plain", "second"]),
        (&[3], &["plain"]),
    ] {
        let store = open(&path, keys, true);
        for id in ["plain", "first", "second"] {
            let read = read(&store, id).await;
            if readable.contains(&id) {
                assert_eq!(read, Ok(()), "{keys:?} {id}");
            } else {
                assert!(unreadable(read), "{keys:?} {id}");
            }
        }
        let found = store.survey().await.expect("a file").expect("a file");
        let missing = 3 - readable.len() as u64;
        assert_eq!((found.encrypted, found.unreadable), (2, missing));
    }
    // A list does not silently omit an entry, and nothing is lost.
    let store = open(&path, &[3], true);
    let any = Filter::default();
    let listed = store.objects(&owner, Kind::Conversation, &any, &all);
    assert!(unreadable(listed.await.map(|_| ())));
    let stranger = SqlStore::in_file(&path, Retention::default());
    let found = stranger.object(at(&owner, Kind::Conversation, "first"));
    assert!(unreadable(found.await.map(|_| ())), "without any keys");
    assert_eq!(read(&open(&path, &[1], true), "first").await, Ok(()));
}

#[tokio::test]
async fn a_text_that_was_moved_to_another_place_is_not_read() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (store, owner) = (open(&path, &[1], true), Owner::NOBODY);
    for id in ["a", "b"] {
        let created = store.create(&owner, conversation(id), items(&[id])).await;
        assert_eq!(created, Ok(()));
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut file = options.connect().await.expect("the file");
    for table in ["objects", "items"] {
        let moved = format!(
            "UPDATE {table} SET sealed = (SELECT sealed FROM {table} WHERE id = 'a') WHERE id = 'b'"
        );
        assert!(file.execute(&*moved).await.is_ok());
    }
    let there = at(&owner, Kind::Conversation, "b");
    for refused in [
        store.object(there).await.err(),
        store.item(there, "b").await.err(),
    ] {
        assert!(matches!(refused, Some(StoreError::Unavailable { .. })));
    }
}

#[tokio::test]
async fn a_database_is_encrypted_too() {
    let Some(url) = database().await else { return };
    let open = |keys: &[u8]| {
        let store = SqlStore::in_database(&url, Retention::default());
        store.expect("an address").with_keys(ring(keys), true)
    };
    let (store, owner) = (open(&[1]), Owner::NOBODY);
    let its = vec![secret("i", Side::Input)];
    let created = store.create(&owner, conversation("c"), its.clone()).await;
    assert_eq!(created, Ok(()));
    let there = at(&owner, Kind::Conversation, "c");
    assert_eq!(open(&[2, 1]).item(there, "i").await, Ok(its[0].clone()));
    let refused = open(&[2]).item(there, "i").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .expect("a database");
    let found = "SELECT COUNT(*) FROM items WHERE body <> '' OR sealed IS NULL";
    let found: i64 = sqlx::query_scalar(found)
        .fetch_one(&mut connection)
        .await
        .expect("a number");
    assert_eq!(found, 0);
    let found = open(&[2]).survey().await.expect("a database");
    let found = found.expect("tables");
    assert_eq!((found.encrypted, found.unreadable), (1, 1));
}
