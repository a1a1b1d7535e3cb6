//! Retention: which objects are deleted when, and what remains of them in the file.

use std::path::Path;
use std::time::Duration;

use loggia_api::store::{Kind, Order, Owner, Side, Store};
use loggia_store::{Retention, SqlStore};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::{at, conversation, ids, items, labels, page, response};

#[tokio::test]
async fn what_was_not_changed_for_too_long_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = SqlStore::in_file(&path, Retention::default());
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    for id in ["old", "continued", "labelled", "new"] {
        let created = store.create(&owner, conversation(id), items(&["i"])).await;
        assert_eq!(created, Ok(()));
    }
    let one_day_too_old = "UPDATE objects SET changed = changed - 31 * 86400 WHERE id <> 'new'";
    change(&path, one_day_too_old).await;
    let appended = store
        .append(at(&owner, kind, "continued"), items(&["j"]))
        .await;
    assert_eq!(appended, Ok(()));
    let changed = store
        .set_metadata(at(&owner, kind, "labelled"), labels(&[("a", "b")]))
        .await;
    assert!(changed.is_ok());
    assert_eq!(store.clean().await, Ok(()));
    assert_eq!(
        ids(&store, &owner, kind).await,
        ["continued", "labelled", "new"]
    );
    let all = store
        .items(
            at(&owner, kind, "continued"),
            Side::Input,
            &page(9, Order::Ascending, None),
        )
        .await;
    assert_eq!(all.map(|all| all.data), Ok(items(&["i", "j"])));
}

/// A conversation that goes on loses nothing; one that nobody continues is deleted as a whole.
#[tokio::test]
async fn a_response_stays_as_long_as_the_youngest_that_continues_it() {
    for by_size in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let (owner, kind) = (Owner::NOBODY, Kind::Response);
        let store = SqlStore::in_file(&path, Retention::default());
        let mut large = items(&["i"]);
        large[0].body = "text ".repeat(10_000);
        for id in OF_TWO_CHAINS {
            let (chain, number) = id.split_at(1);
            let number: u32 = number.parse().expect("a number");
            let previous = number
                .checked_sub(1)
                .map(|before| format!("{chain}{before}"));
            // A branch begins at the second response of its chain.
            let previous = previous.map(|id| id.replace('c', "a"));
            let object = response(id, previous.as_deref());
            assert_eq!(store.create(&owner, object, large.clone()).await, Ok(()));
        }
        // All are too old, except the last one of a chain.
        let ages = "UPDATE objects SET changed = CASE id WHEN 'a3' THEN changed - 86400 \
            ELSE changed - (60 - seq) * 86400 END";
        change(&path, ages).await;
        drop(store);
        let retention = if by_size {
            Retention {
                age: None,
                bytes: 300_000,
            }
        } else {
            Retention::default()
        };
        let store = SqlStore::in_file(&path, retention);
        assert_eq!(store.clean().await, Ok(()));
        let kept = ids(&store, &owner, kind).await;
        assert_eq!(kept, ["a0", "a1", "a2", "a3"], "by size: {by_size}");
        assert!(store.chain(at(&owner, kind, "a3")).await.is_ok());
        // It stays until the last one is too old, too.
        change(&path, "UPDATE objects SET changed = changed - 31 * 86400").await;
        let store = SqlStore::in_file(&path, Retention::default());
        assert_eq!(store.clean().await, Ok(()));
        assert!(ids(&store, &owner, kind).await.is_empty());
    }
}

/// The responses of two chains, `a` and `b`, and of a branch of the first, in the order of their
/// creation.
const OF_TWO_CHAINS: [&str; 8] = ["a0", "b0", "a1", "b1", "b2", "c2", "a2", "a3"];

#[tokio::test]
async fn without_an_age_everything_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let retention = Retention {
        age: None,
        ..Retention::default()
    };
    let store = SqlStore::in_file(&path, retention);
    let created = store
        .create(&Owner::NOBODY, conversation("c"), Vec::new())
        .await;
    assert_eq!(created, Ok(()));
    change(&path, "UPDATE objects SET changed = 0").await;
    assert_eq!(store.clean().await, Ok(()));
    assert_eq!(ids(&store, &Owner::NOBODY, Kind::Conversation).await, ["c"]);
}

/// Deleted text is gone from the file and from its log, and the space is freed.
#[tokio::test]
async fn of_what_was_deleted_no_text_is_left_in_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let retention = Retention {
        age: Some(Duration::from_hours(1)),
        ..Retention::default()
    };
    let store = SqlStore::in_file(&path, retention);
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let mut object = conversation("c");
    object.metadata = labels(&[("label", "secret words")]);
    let mut secret = items(&["i", "j"]);
    secret[0].body = "secret words ".repeat(100_000);
    secret[1].body = "secret words".to_owned();
    assert_eq!(store.create(&owner, object, secret).await, Ok(()));
    let large = size(folder.path());
    assert!(holds(folder.path(), "secret words") && large > 1 << 20);
    assert_eq!(store.delete(at(&owner, kind, "c")).await, Ok(()));
    assert_eq!(store.clean().await, Ok(()));
    assert!(!holds(folder.path(), "secret words"));
    let small = size(folder.path());
    assert!(small < 1 << 18, "{small} bytes");
}

/// Runs a statement on the file.
async fn change(path: &Path, statement: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("the file");
    let done = connection.execute(statement).await.expect("a statement");
    assert!(done.rows_affected() > 0);
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let files = entries.map(|entry| std::fs::read(entry.expect("an entry").path()));
    files.map(|file| file.expect("a file")).collect()
}

fn holds(folder: &Path, text: &str) -> bool {
    let text = text.as_bytes();
    let mut files = files(folder).into_iter();
    files.any(|file| file.windows(text.len()).any(|part| part == text))
}

fn size(folder: &Path) -> usize {
    files(folder).iter().map(Vec::len).sum()
}
