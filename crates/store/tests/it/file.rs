//! The SQLite file: what it contains after a restart, which files are refused, and a store whose
//! file is missing.

use loggia_api::store::{Change, Kind, Object, Order, Owner, Side, Store, StoreError};
use loggia_store::{OpenError, Retention, SqlStore, Survey};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::{at, chat, conversation, ids, items, on, page};

fn open(path: &std::path::Path) -> SqlStore {
    SqlStore::in_file(path, Retention::default())
}

#[tokio::test]
async fn what_was_stored_is_there_when_the_file_is_opened_again_also_twice_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let first = open(&path);
    assert_eq!(
        first.create(&owner, conversation("a"), items(&["i"])).await,
        Ok(())
    );
    // The first store stays open: two programs share the file.
    let second = open(&path);
    assert_eq!(
        second
            .create(&owner, conversation("b"), items(&["i"]))
            .await,
        Ok(())
    );
    for store in [&first, &second, &open(&path)] {
        assert_eq!(ids(store, &owner, kind).await, ["a", "b"]);
        let all = store
            .items(
                at(&owner, kind, "b"),
                Side::Input,
                &page(9, Order::Ascending, None),
            )
            .await;
        assert_eq!(all.map(|all| all.data), Ok(items(&["i"])));
    }
}

#[tokio::test]
async fn a_file_with_the_first_schema_keeps_its_objects_and_gets_the_newest_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = options
        .create_if_missing(true)
        .connect()
        .await
        .expect("a file");
    for statements in [
        include_str!("../../migrations/sqlite/0001.sql"),
        "CREATE TABLE loggia_schema (version BIGINT NOT NULL);
        INSERT INTO loggia_schema VALUES (1);",
        r#"INSERT INTO objects VALUES
            (1, 'c', 'conversation', 'key:a', 1700000000, 1700000000, NULL, '{}', '{"id":"c"}'),
            (2, 'chat', 'chat.completion', 'key:a', 1700000000, 1700000000, 'm', '{"t":"x"}', '{"id":"chat"}');
        INSERT INTO items VALUES
            (1, 5, 'a', '{"id":"a","text":"says a"}'),
            (1, 1, 'b', '{"id":"b","text":"says b"}'),
            (2, 0, 'chat-0', '{"id":"chat-0","text":"says chat-0"}');
        INSERT INTO labels VALUES (2, 't', 'x');"#,
    ] {
        assert!(connection.execute(statements).await.is_ok());
    }
    drop(connection);
    let (store, owner) = (open(&path), Owner::new(Some("a".into())));
    let all = page(9, Order::Ascending, None);
    for (object, its) in [
        (conversation("c"), &["b", "a"][..]),
        (chat("chat", "m", &[("t", "x")]), &["chat-0"]),
    ] {
        let id = object.id.clone();
        let there = at(&owner, object.kind, &id);
        assert_eq!(store.object(there).await, Ok(object));
        let found = store.items(there, Side::Input, &all).await.expect("items");
        assert_eq!(found.data, items(its));
    }
    let ids = ["a", "chat-0"].map(str::to_owned);
    assert_eq!(store.find_items(&owner, &ids).await, Ok(items(&["a"])));
    assert_eq!(
        store
            .append(at(&owner, Kind::Conversation, "c"), items(&["d"]))
            .await,
        Ok(())
    );
    let found = store.items(at(&owner, Kind::Conversation, "c"), Side::Input, &all);
    assert_eq!(found.await.expect("items").data, items(&["b", "a", "d"]));
}

/// The schema in which the places of items did not yet include their objects.
#[tokio::test]
async fn items_of_an_earlier_schema_stay_on_their_sides_and_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = options
        .create_if_missing(true)
        .connect()
        .await
        .expect("a file");
    for statements in [
        include_str!("../../migrations/sqlite/0001.sql"),
        include_str!("../../migrations/sqlite/0002.sql"),
        include_str!("../../migrations/sqlite/0003.sql"),
        include_str!("../../migrations/sqlite/0004.sql"),
        include_str!("../../migrations/sqlite/0005.sql"),
        include_str!("../../migrations/sqlite/0006.sql"),
        include_str!("../../migrations/sqlite/0007.sql"),
        include_str!("../../migrations/sqlite/0008.sql"),
        include_str!("../../migrations/sqlite/0009.sql"),
        "CREATE TABLE loggia_schema (version BIGINT NOT NULL);
        INSERT INTO loggia_schema VALUES (9);",
        EARLIER,
    ] {
        assert!(connection.execute(statements).await.is_ok());
    }
    drop(connection);
    check_earlier(&open(&path)).await;
}

/// A request that still reads a deleted object must not find another owner's in its place.
#[tokio::test]
async fn no_object_gets_the_place_of_a_deleted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let mut last = 0;
    for number in 0..6 {
        // Also after a restart.
        let store = open(&path);
        let id = format!("c{number}");
        let object = conversation(&id);
        let (hold, items) = (number % 2 == 0, items(&["i"]));
        let mut changes = vec![Change::Create { object, items }];
        // A write that does more than create is made another way.
        changes.extend(hold.then(|| Change::Release {
            kind,
            id: id.clone(),
            holder: None,
        }));
        assert_eq!(store.write(&owner, changes).await, Ok(()));
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.expect("the file");
        let places = sqlx::query_scalar("SELECT seq FROM objects");
        let places: Vec<i64> = places.fetch_all(&mut connection).await.expect("places");
        assert!(places.len() == 1 && places[0] > last, "{places:?} {last}");
        last = places[0];
        assert_eq!(store.delete(at(&owner, kind, &id)).await, Ok(()));
    }
}

/// Objects and items as earlier schemas of both databases have them, in no order.
pub(crate) const EARLIER: &str = r#"
    INSERT INTO objects (seq, id, kind, owner, created, changed, metadata, body, previous, size)
    VALUES
        (7, 'r', 'response', 'key:a', 1700000000, 1700000000, '{}', '{"id":"r"}', 'q', 99),
        (5, 'q', 'response', 'key:a', 1700000000, 1700000000, '{}', '{"id":"q"}', NULL, 99),
        (9, 'c', 'conversation', 'key:a', 1700000000, 1700000000, '{}', '{"id":"c"}', NULL, 0);
    INSERT INTO items (seq, object, side, owner, id, body) VALUES
        (50, 7, 1, 'key:a', 'd', '{"id":"d","text":"says d"}'),
        (11, 7, 0, 'key:a', 'c', '{"id":"c","text":"says c"}'),
        (12, 7, 2, NULL, 'c', '{"id":"c","text":"says c"}'),
        (13, 7, 0, 'key:a', 'b', '{"id":"b","text":"says b"}'),
        (14, 7, 1, 'key:a', 'e', '{"id":"e","text":"says e"}'),
        (15, 5, 0, 'key:a', 'a', '{"id":"a","text":"says a"}');"#;

/// Checks that a store has the objects of [`EARLIER`], and changes them.
pub(crate) async fn check_earlier(store: &SqlStore) {
    let (owner, kind) = (crate::suite::key("a"), Kind::Response);
    let all = page(9, Order::Ascending, None);
    let there = at(&owner, kind, "r");
    for (side, ids) in [
        (Side::Input, &["c", "b"][..]),
        (Side::Output, &["e", "d"]),
        (Side::Stream, &["c"]),
    ] {
        let found = store.items(there, side, &all).await.expect("items");
        assert_eq!(found.data, on(side, ids));
    }
    let mut chain = items(&["a", "c", "b"]);
    chain.extend(on(Side::Output, &["e", "d"]));
    assert_eq!(store.chain(there).await, Ok(chain));
    let ids = ["b", "e", "x"].map(str::to_owned);
    let found = store.find_items(&owner, &ids).await.expect("items");
    assert_eq!(
        found,
        [on(Side::Input, &["b"]), on(Side::Output, &["e"])].concat()
    );
    for (id, side, more) in [("r", Side::Output, "f"), ("c", Side::Input, "g")] {
        let kind = if id == "c" { Kind::Conversation } else { kind };
        let there = at(&owner, kind, id);
        assert_eq!(store.append(there, on(side, &[more])).await, Ok(()));
        let twice = store.append(there, on(side, &[more])).await;
        let id = more.to_owned();
        assert_eq!(twice, Err(StoreError::Duplicate { id }));
        let last = page(1, Order::Descending, None);
        let found = store.items(there, side, &last).await.expect("items");
        assert_eq!(found.data, on(side, &[more]));
    }
    // The object's items are deleted with it, and no others are.
    assert_eq!(store.delete(there).await, Ok(()));
    let ids = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned);
    let found = store.find_items(&owner, &ids).await;
    assert_eq!(found, Ok(items(&["a", "g"])));
}

#[tokio::test]
async fn a_schema_that_is_newer_than_the_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    assert!(open(&path).open().await.is_ok());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = options.connect().await.expect("the file");
    let newer = connection
        .execute("UPDATE loggia_schema SET version = version + 7")
        .await;
    assert!(newer.is_ok());
    let store = open(&path);
    let refused = store.open().await.expect_err("too new");
    let OpenError::Newer { found, known, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*found, known + 7);
    assert!(
        refused
            .to_string()
            .contains("use the version that wrote it"),
        "{refused}"
    );
    assert!(matches!(
        store.ready().await,
        Err(StoreError::Unavailable { .. })
    ));
    let version = sqlx::query_scalar("SELECT version FROM loggia_schema");
    let version: i64 = version.fetch_one(&mut connection).await.expect("a version");
    assert_eq!(version, *found);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let text = "not a database, but somebody's file\n".repeat(100);
    std::fs::write(&path, &text).expect("a file");
    let store = open(&path);
    assert!(matches!(store.open().await, Err(OpenError::Open { .. })));
    let refused = store
        .create(&Owner::NOBODY, conversation("a"), Vec::new())
        .await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    assert!(open(&path).survey().await.is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
}

#[tokio::test]
async fn a_store_whose_folder_is_away_works_once_it_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("mounted");
    std::fs::write(&place, "a file in the folder's place").expect("a file");
    let store = open(&place.join("state.db"));
    let owner = Owner::NOBODY;
    for _ in 0..2 {
        assert!(matches!(
            store.ready().await,
            Err(StoreError::Unavailable { .. })
        ));
        let refused = store.create(&owner, conversation("a"), Vec::new()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    }
    std::fs::remove_file(&place).expect("a file");
    assert_eq!(store.ready().await, Ok(()));
    assert_eq!(
        store.create(&owner, conversation("a"), Vec::new()).await,
        Ok(())
    );
    assert_eq!(ids(&store, &owner, Kind::Conversation).await, ["a"]);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_on_the_machine_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("state.db"));
    let created = store
        .create(&Owner::NOBODY, conversation("a"), Vec::new())
        .await;
    assert_eq!(created, Ok(()));
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}: {mode:o}", entry.file_name());
        seen += 1;
    }
    assert!(seen >= 2, "the file and its log");
}

#[tokio::test]
async fn a_survey_counts_and_makes_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    assert!(matches!(open(&path).survey().await, Ok(None)));
    assert!(!path.exists());
    let store = open(&path);
    for id in ["a", "b"] {
        let created = store
            .create(&Owner::NOBODY, conversation(id), Vec::new())
            .await;
        assert_eq!(created, Ok(()));
    }
    let created = store
        .create(&Owner::NOBODY, chat("c", "m", &[]), Vec::new())
        .await;
    assert_eq!(created, Ok(()));
    let message = Object {
        kind: Kind::Message,
        ..conversation("d")
    };
    let created = store.create(&Owner::NOBODY, message, Vec::new()).await;
    assert_eq!(created, Ok(()));
    let found = open(&path).survey().await.expect("a file").expect("a file");
    let Survey {
        objects,
        encrypted: 0,
        unreadable: 0,
        bytes,
    } = found
    else {
        panic!("{found:?}");
    };
    let expected = [
        (Kind::ChatCompletion, 1),
        (Kind::Conversation, 2),
        (Kind::Message, 1),
    ];
    assert_eq!(objects, expected);
    assert!((1 << 12..1 << 20).contains(&bytes), "{bytes}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_under_a_running_store_is_opened_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (store, owner) = (open(&path), Owner::NOBODY);
    let kind = Kind::Conversation;
    let create = async |id: &str| store.create(&owner, conversation(id), items(&["i"])).await;
    assert_eq!(create("a").await, Ok(()));
    // The file is deleted, once with and once without its other files.
    std::fs::remove_file(&path).expect("a file");
    assert!(ids(&store, &owner, kind).await.is_empty());
    assert_eq!(create("b").await, Ok(()));
    assert_eq!(ids(&open(&path), &owner, kind).await, ["b"]);
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    assert_eq!(create("c").await, Ok(()));
    assert_eq!(ids(&open(&path), &owner, kind).await, ["c"]);
    // Replaced by a copy of another.
    let other = folder.path().join("other.db");
    let replacement = open(&other);
    let created = replacement.create(&owner, conversation("d"), items(&["i"]));
    assert_eq!(created.await, Ok(()));
    assert_eq!(replacement.clean().await, Ok(()));
    drop(replacement);
    std::fs::rename(&other, &path).expect("a file");
    for name in ["state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
    assert_eq!(create("e").await, Ok(()));
    assert_eq!(ids(&open(&path), &owner, kind).await, ["d", "e"]);
}

#[tokio::test]
async fn reads_that_are_dropped_leave_connections_that_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqlStore::in_file(folder.path().join("state.db"), Retention::default());
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let names: Vec<String> = (0..300).map(|number| format!("i{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stored = store.create(&owner, conversation("c"), items(&names)).await;
    assert_eq!(stored, Ok(()));
    let read = || store.object_with_items(at(&owner, kind, "c"), Side::Input);
    for number in 0..100 {
        let reads = futures_util::future::join_all((0..6).map(|_| read()));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(number * 10), reads).await;
    }
    for read in futures_util::future::join_all((0..20).map(|_| read())).await {
        assert_eq!(read, Ok((conversation("c"), items(&names))));
    }
}
