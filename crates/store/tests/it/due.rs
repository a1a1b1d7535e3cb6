//! Objects that are due, and the limit of their content.

use std::time::Duration;

use loggia_api::store::{Change, Kind, Object, Order, Owner, Side, Store, StoreError};
use loggia_store::{Retention, SqlStore};

use crate::suite::{each, key};
use crate::{at, conversation, ids, items, on, page};

const MINUTE: Duration = Duration::from_mins(1);

fn file(id: &str) -> Object {
    Object {
        kind: Kind::File,
        ..conversation(id)
    }
}

/// The changes that store a file which is due at this time.
fn stored(id: &str, due: Option<u64>, content: u64) -> Vec<Change> {
    let create = Change::Create {
        object: file(id),
        items: Vec::new(),
    };
    vec![create, schedule(id, due, content)]
}

fn schedule(id: &str, due: Option<u64>, content: u64) -> Change {
    Change::Schedule {
        kind: Kind::File,
        id: id.to_owned(),
        due,
        content,
    }
}

async fn claim(store: &dyn Store, kind: Kind, holder: &str) -> Option<(Owner, String)> {
    let claimed = store.claim(kind, holder, MINUTE).await.expect("an answer");
    claimed.map(|claimed| {
        assert!(claimed.object.is_held);
        assert_eq!(claimed.object.kind, kind);
        (claimed.owner, claimed.object.id)
    })
}

#[tokio::test]
async fn what_is_due_is_claimed_once_the_oldest_first_and_what_is_not_never() {
    each(async |store| {
        let far = Some(4_000_000_000);
        for (owner, id, due) in [
            (key("a"), "file-2", Some(2)),
            (key("b"), "file-1", Some(1)),
            (Owner::NOBODY, "file-3", Some(3)),
            (key("a"), "file-far", far),
            (key("a"), "file-never", None),
        ] {
            let written = store.write(&owner, stored(id, due, 0)).await;
            assert_eq!(written, Ok(()));
        }
        assert_eq!(claim(store, Kind::Upload, "h").await, None);
        let mut claimed = Vec::new();
        while let Some(one) = claim(store, Kind::File, "h").await {
            claimed.push(one);
        }
        let expected = [
            (key("b"), "file-1".to_owned()),
            (key("a"), "file-2".to_owned()),
            (Owner::NOBODY, "file-3".to_owned()),
        ];
        assert_eq!(claimed, expected);
        // A hold by any other way is as good, and its end makes the object due again.
        let release = Change::Release {
            kind: Kind::File,
            id: "file-2".to_owned(),
            holder: Some("h".to_owned()),
        };
        assert_eq!(store.write(&key("a"), vec![release]).await, Ok(()));
        let again = claim(store, Kind::File, "other").await;
        assert_eq!(again, Some((key("a"), "file-2".to_owned())));
        let gone = store.delete(at(&key("a"), Kind::File, "file-2")).await;
        assert_eq!(gone, Ok(()));
        let postponed = vec![schedule("file-3", far, 0)];
        assert_eq!(store.write(&Owner::NOBODY, postponed).await, Ok(()));
        assert_eq!(claim(store, Kind::File, "h").await, None);
    })
    .await;
}

#[tokio::test]
async fn claims_at_once_never_get_the_same_object() {
    each(async |store| {
        for number in 0..20 {
            let id = format!("file-{number}");
            let written = store.write(&key("a"), stored(&id, Some(1), 0)).await;
            assert_eq!(written, Ok(()));
        }
        let holders: Vec<String> = (0..20).map(|number| format!("h{number}")).collect();
        let claims = holders
            .iter()
            .map(|holder| claim(store, Kind::File, holder));
        let claimed = futures_util::future::join_all(claims).await;
        let mut ids: Vec<String> = claimed.into_iter().flatten().map(|(_, id)| id).collect();
        let length = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), length);
        // Under contention a claim may find nothing, but the rest is found later.
        while let Some((_, id)) = claim(store, Kind::File, "late").await {
            ids.push(id);
        }
        assert_eq!(ids.len(), 20);
    })
    .await;
}

#[tokio::test]
async fn the_content_of_an_owner_is_limited() {
    each(async |store| {
        let limited = |id: &str, content: u64| {
            let limit = Change::Limit {
                more: content,
                most: 100,
            };
            let mut changes = stored(id, None, content);
            changes.insert(0, limit);
            changes
        };
        let (a, b) = (key("a"), key("b"));
        assert_eq!(store.content_bytes(&a).await, Ok(0));
        assert_eq!(store.write(&a, limited("file-1", 60)).await, Ok(()));
        assert_eq!(store.write(&b, limited("file-2", 60)).await, Ok(()));
        let over = store.write(&a, limited("file-3", 41)).await;
        assert_eq!(over, Err(StoreError::OverLimit));
        assert_eq!(ids(store, &a, Kind::File).await, ["file-1"]);
        assert_eq!(store.write(&a, limited("file-4", 40)).await, Ok(()));
        assert_eq!(store.content_bytes(&a).await, Ok(100));
        let gone = store.delete(at(&a, Kind::File, "file-1")).await;
        assert_eq!(gone, Ok(()));
        assert_eq!(store.content_bytes(&a).await, Ok(40));
        // Of several writes at once, no more pass than fit.
        let ids: Vec<String> = (10..20).map(|number| format!("file-{number}")).collect();
        let writes = ids.iter().map(|id| store.write(&a, limited(id, 20)));
        let written = futures_util::future::join_all(writes).await;
        assert_eq!(written.iter().filter(|one| one.is_ok()).count(), 3);
        assert_eq!(store.content_bytes(&a).await, Ok(100));
    })
    .await;
}

#[tokio::test]
async fn the_items_of_an_object_are_deleted_together() {
    each(async |store| {
        let owner = key("a");
        let mut sides = items(&["i-1", "i-2"]);
        sides.extend(on(Side::Stream, &["s-1"]));
        let created = store.create(&owner, conversation("conv_1"), sides).await;
        assert_eq!(created, Ok(()));
        let other = store.create(&owner, conversation("conv_2"), items(&["i-3"]));
        assert_eq!(other.await, Ok(()));
        let clear = Change::Clear {
            kind: Kind::Conversation,
            id: "conv_1".to_owned(),
        };
        assert_eq!(store.write(&owner, vec![clear]).await, Ok(()));
        let all = page(20, Order::Ascending, None);
        for (id, number) in [("conv_1", 0), ("conv_2", 1)] {
            let at = at(&owner, Kind::Conversation, id);
            let left = store.items(at, Side::Input, &all).await;
            assert_eq!(left.map(|left| left.data.len()), Ok(number));
        }
        let cleared = at(&owner, Kind::Conversation, "conv_1");
        let events = store.items(cleared, Side::Stream, &all).await;
        assert_eq!(events.map(|events| events.data), Ok(Vec::new()));
        assert_eq!(store.append(cleared, items(&["i-1"])).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn ids_are_known_whoever_owns_them() {
    each(async |store| {
        let written = store.write(&key("a"), stored("file-1", None, 0)).await;
        assert_eq!(written, Ok(()));
        let asked: Vec<String> = (0..100).map(|number| format!("file-{number}")).collect();
        assert_eq!(store.existing(&asked).await, Ok(vec!["file-1".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn files_stay_whatever_their_age_and_the_size_of_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let retention = Retention {
        age: Some(Duration::ZERO),
        bytes: 1 << 20,
    };
    let store = SqlStore::in_file(folder.path().join("state.db"), retention);
    let owner = key("a");
    assert_eq!(store.write(&owner, stored("file-1", None, 0)).await, Ok(()));
    let chat = store.create(&owner, conversation("conv_1"), Vec::new());
    assert_eq!(chat.await, Ok(()));
    assert_eq!(store.clean().await, Ok(()));
    assert!(ids(&store, &owner, Kind::Conversation).await.is_empty());
    assert_eq!(ids(&store, &owner, Kind::File).await, ["file-1"]);
}

#[tokio::test]
async fn looking_for_what_is_due_does_not_make_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = SqlStore::in_file(&path, Retention::default());
    assert_eq!(store.claim(Kind::File, "h", MINUTE).await, Ok(None));
    assert!(!path.exists());
}
