//! Retention: which objects are deleted when, and what remains of them in the file.

use std::path::Path;
use std::time::Duration;

use loggia_api::store::{Change, Item, Kind, Object, Order, Owner, Side, Store, StoreError};
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
                bytes: 395_000,
            }
        } else {
            Retention::default()
        };
        let store = SqlStore::in_file(&path, retention);
        assert_eq!(store.clean().await, Ok(()));
        let kept = ids(&store, &owner, kind).await;
        assert_eq!(kept, ["a0", "a1", "a2", "a3"], "by size: {by_size}");
        assert!(store.chain(at(&owner, kind, "a3")).await.is_ok());
        // The object stays until the last one that continues it is too old.
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

/// Answers and conversations leave; what a client or an operator has to delete stays.
#[tokio::test]
async fn only_answers_and_conversations_are_ever_too_old_or_make_room() {
    for by_size in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let store = SqlStore::in_file(&path, Retention::default());
        for kind in Kind::ALL {
            let object = Object {
                kind: *kind,
                ..conversation(kind.as_str())
            };
            let created = store.create(&Owner::NOBODY, object, Vec::new()).await;
            assert_eq!(created, Ok(()));
        }
        change(&path, "UPDATE objects SET changed = 0").await;
        drop(store);
        let retention = if by_size {
            Retention {
                age: None,
                bytes: 1 << 10,
            }
        } else {
            Retention::default()
        };
        let store = SqlStore::in_file(&path, retention);
        assert_eq!(store.clean().await, Ok(()));
        let mut left = Vec::new();
        for kind in Kind::ALL {
            let at = at(&Owner::NOBODY, *kind, kind.as_str());
            if store.object(at).await.is_ok() {
                left.push(kind.as_str());
            }
        }
        let stay = [
            "file",
            "upload",
            "batch",
            "message_batch",
            "message_batch.content",
            "vector_store",
            "vector_store.file",
            "vector_store.file_batch",
            "webhook_endpoint",
            "webhook_delivery",
        ];
        assert_eq!(left, stay, "by size: {by_size}");
    }
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

/// The file never gets larger than its limit, and not much smaller than it.
#[tokio::test]
async fn many_small_objects_stay_below_the_limit_and_use_most_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let (owner, kind, bytes) = (Owner::NOBODY, Kind::Response, 1 << 20);
    let retention = Retention {
        bytes,
        ..Retention::default()
    };
    let store = SqlStore::in_file(&path, retention);
    let mut most = 0;
    for number in 0..2000 {
        let id = format!("resp_{number:032}");
        let previous = (number % 3 > 0).then(|| format!("resp_{:032}", number - 1));
        let mut object = response(&id, previous.as_deref());
        object.metadata = labels(&[("topic", "a value of some length")]);
        let created = store.create(&owner, object, items(&[&id])).await;
        assert_eq!(created, Ok(()), "{number}");
        if number % 20 == 0 {
            most = most.max(pages(&path).await);
        }
    }
    assert!((bytes * 9 / 10..=bytes).contains(&most), "{most} bytes");
    // The newest are left, and every chain is whole.
    let left = ids(&store, &owner, kind).await;
    let newest: Vec<_> = (2000 - left.len() + 3..2000)
        .map(|number| format!("resp_{number:032}"))
        .collect();
    assert!(
        newest.len() > 500 && left.ends_with(&newest),
        "{}",
        left.len()
    );
    for id in &left {
        assert!(store.chain(at(&owner, kind, id)).await.is_ok(), "{id}");
    }
}

/// An object that was refused for lack of space is stored after others have made room.
#[tokio::test]
async fn a_full_file_makes_room_for_the_next_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let limited = |bytes| Retention {
        bytes,
        ..Retention::default()
    };
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let store = SqlStore::in_file(&path, limited(4 << 20));
    for number in 0..40 {
        let object = conversation(&format!("c{number}"));
        let created = store.create(&owner, object, text("i", 64 << 10)).await;
        assert_eq!(created, Ok(()));
    }
    // The operator lowers the limit far below the used size.
    let store = SqlStore::in_file(&path, limited(1 << 20));
    let first = store.create(&owner, conversation("d"), text("i", 200 << 10));
    assert_eq!(first.await, Err(StoreError::Full));
    let second = store.create(&owner, conversation("d"), text("i", 200 << 10));
    assert_eq!(second.await, Ok(()));
    let left = ids(&store, &owner, kind).await;
    assert!(left.contains(&"c39".to_owned()) && !left.contains(&"c0".to_owned()));
    assert!(pages(&path).await - free(&path).await <= 1 << 20);
}

/// Chains and branches of all ages leave in the order of their youngest response, each response after
/// those that continue it, and not more of them than needed.
#[tokio::test]
async fn chains_make_room_in_the_order_of_their_youngest_response() {
    let mut random = 7;
    for bytes in [400_000, 800_000, 1_600_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let store = SqlStore::in_file(&path, Retention::default());
        let forest = Forest::stored(&store, &mut random).await;
        for statement in forest.ages() {
            change(&path, &statement).await;
        }
        let retention = Retention { age: None, bytes };
        let store = SqlStore::in_file(&path, retention);
        assert_eq!(store.clean().await, Ok(()));
        forest.check(&store).await;
        let used = pages(&path).await - free(&path).await;
        assert!((bytes * 3 / 4..=bytes).contains(&used), "{used} bytes");
        // Nothing more can be deleted.
        let left = ids(&store, &Owner::NOBODY, Kind::Response).await;
        assert_eq!(store.clean().await, Ok(()));
        assert_eq!(ids(&store, &Owner::NOBODY, Kind::Response).await, left);
    }
}

/// An object that a turn or a task holds is not deleted, even if it is the oldest.
#[tokio::test]
async fn an_object_in_use_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let retention = Retention {
        bytes: 1 << 20,
        ..Retention::default()
    };
    let store = SqlStore::in_file(&path, retention);
    let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
    let created = store.create(&owner, conversation("held"), items(&["i"]));
    assert_eq!(created.await, Ok(()));
    let hold = Change::Hold {
        kind,
        id: "held".to_owned(),
        holder: "turn".to_owned(),
        time: Duration::from_mins(1),
    };
    assert_eq!(store.write(&owner, vec![hold]).await, Ok(()));
    change(&path, "UPDATE objects SET changed = changed - 86400").await;
    for number in 0..50 {
        let object = conversation(&format!("c{number}"));
        let created = store.create(&owner, object, text("i", 40 << 10)).await;
        assert_eq!(created, Ok(()));
    }
    let left = ids(&store, &owner, kind).await;
    assert!(left.contains(&"held".to_owned()) && !left.contains(&"c0".to_owned()));
    // Files alone are above the limit: nothing can leave, and nothing waits forever.
    let retention = Retention {
        bytes: 1 << 10,
        ..Retention::default()
    };
    let store = SqlStore::in_file(&path, retention);
    assert_eq!(store.clean().await, Ok(()));
    assert_eq!(ids(&store, &owner, kind).await, ["held"]);
}

/// An item with a text that no database compresses.
pub(crate) fn text(id: &str, bytes: usize) -> Vec<Item> {
    let mut random = bytes as u64 + 1;
    let body = std::iter::repeat_with(|| format!("{:016x}", next(&mut random)));
    vec![Item {
        body: body.take(bytes / 16).collect(),
        ..items(&[id]).remove(0)
    }]
}

/// The next of a row of numbers that look random (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Responses that continue one another, and when each was last changed.
pub(crate) struct Forest(Vec<(Option<usize>, i64)>);

impl Forest {
    /// Stores a forest of about 2 MB.
    pub(crate) async fn stored(store: &SqlStore, random: &mut u64) -> Self {
        let mut trees = Vec::new();
        for number in 0..200 {
            let previous = usize::try_from(next(random)).unwrap_or(0) % (number + number / 2 + 1);
            let previous = (previous < number).then_some(previous);
            // Not every response is younger than the one before it: labels may have been changed.
            let changed = i64::try_from(next(random) % 60).unwrap_or(0);
            trees.push((previous, changed));
            let previous = previous.map(|previous| format!("r{previous}"));
            let object = response(&format!("r{number}"), previous.as_deref());
            let created = store.create(&Owner::NOBODY, object, text("i", 10_000));
            assert_eq!(created.await, Ok(()));
        }
        Self(trees)
    }

    /// The statements that set the ages.
    pub(crate) fn ages(&self) -> impl Iterator<Item = String> {
        let trees = self.0.iter().enumerate();
        trees.map(|(number, (_, changed))| {
            format!("UPDATE objects SET changed = 1000 + {changed} WHERE id = 'r{number}'")
        })
    }

    /// Checks that the deleted responses are the oldest.
    pub(crate) async fn check(&self, store: &SqlStore) {
        let left = ids(store, &Owner::NOBODY, Kind::Response).await;
        let is_left = |number: usize| left.contains(&format!("r{number}"));
        let mut youngest: Vec<i64> = self.0.iter().map(|(_, changed)| *changed).collect();
        for (number, (previous, _)) in self.0.iter().enumerate().rev() {
            if let Some(previous) = *previous {
                youngest[previous] = youngest[previous].max(youngest[number]);
                assert!(
                    is_left(previous) || !is_left(number),
                    "r{previous} before r{number}"
                );
            }
        }
        let ages = |is: bool| (0..self.0.len()).filter(move |number| is_left(*number) == is);
        let oldest_left = ages(true).map(|number| youngest[number]).min();
        let youngest_deleted = ages(false).map(|number| youngest[number]).max();
        assert!(
            !left.is_empty() && youngest_deleted <= oldest_left,
            "{youngest_deleted:?} {oldest_left:?}"
        );
        assert!(left.len() < self.0.len() && youngest_deleted.is_some());
    }
}

/// The bytes of all pages of the file, also of those that are only in its log.
async fn pages(path: &Path) -> u64 {
    pragma(path, "page_count").await * pragma(path, "page_size").await
}

/// The bytes of the pages that hold nothing.
async fn free(path: &Path) -> u64 {
    pragma(path, "freelist_count").await * pragma(path, "page_size").await
}

async fn pragma(path: &Path, name: &str) -> u64 {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("the file");
    let pragma = format!("PRAGMA {name}");
    let number = sqlx::query_scalar::<_, i64>(&pragma);
    let number = number.fetch_one(&mut connection).await.expect("a number");
    number.unsigned_abs()
}

/// Runs a statement on the file.
async fn change(path: &Path, statement: &str) {
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
