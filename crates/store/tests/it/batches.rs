//! Writes that come at once share a transaction, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loggia_api::store::{Change, Kind, Order, Owner, Side, Store, StoreError};
use loggia_store::{Retention, SqlStore};

use crate::suite::{each, key};
use crate::{at, conversation, ids, items, page};

#[tokio::test]
async fn of_writes_that_come_at_once_each_has_its_own_result() {
    each(async |store| {
        let owners = [key("a"), key("b"), Owner::NOBODY];
        for round in 0..5 {
            // Every fifth write uses an id that exists already, and fails.
            let writes = (0..50).map(|number| {
                let id = format!("c{round}_{}", number - number % 5 / 4);
                let owner = &owners[number % 3];
                async move {
                    (
                        id.clone(),
                        store.create(owner, conversation(&id), items(&["i"])).await,
                    )
                }
            });
            let written = join_all(writes).await;
            let failed: Vec<_> = written.iter().filter(|(_, done)| done.is_err()).collect();
            assert_eq!(failed.len(), 10, "{failed:?}");
            for (id, error) in failed {
                let id = id.clone();
                assert_eq!(error, &Err(StoreError::Duplicate { id }));
            }
        }
        let mut number = 0;
        for owner in &owners {
            number += ids(store, owner, Kind::Conversation).await.len();
        }
        assert_eq!(number, 5 * 40);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_that_leaves_takes_no_other_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = Arc::new(SqlStore::in_file(path, Retention::default()));
    for round in 0..20_u64 {
        let mut staying = Vec::new();
        for number in 0..40_u64 {
            let (store, id) = (Arc::clone(&store), format!("c{round}_{number}"));
            let is_leaving = number % 2 == 0;
            let task = tokio::spawn(async move {
                let owner = Owner::NOBODY;
                let write = store.create(&owner, conversation(&id), items(&["a", "b"]));
                if is_leaving {
                    let soon = Duration::from_micros(number * round * 3);
                    let _ = tokio::time::timeout(soon, write).await;
                    None
                } else {
                    Some((id.clone(), write.await))
                }
            });
            staying.push(task);
        }
        for task in staying {
            if let Some((id, done)) = task.await.expect("a task") {
                assert_eq!(done, Ok(()), "{id}");
            }
        }
    }
    let owner = Owner::NOBODY;
    let all = page(9, Order::Ascending, None);
    let there = ids(&*store, &owner, Kind::Conversation).await;
    for round in 0..20 {
        for number in (1..40).step_by(2) {
            let id = format!("c{round}_{number}");
            assert!(there.contains(&id), "{id}");
        }
    }
    for id in &there {
        let there = at(&owner, Kind::Conversation, id);
        let found = store.items(there, Side::Input, &all).await.expect("items");
        assert_eq!(found.data, items(&["a", "b"]));
    }
    // Writers that left do not block other calls.
    let there = at(&owner, Kind::Conversation, "c0_1");
    let deleted = tokio::time::timeout(Duration::from_secs(20), store.delete(there)).await;
    assert_eq!(deleted, Ok(Ok(())));
}

#[tokio::test]
async fn a_large_write_and_many_small_ones_are_all_made() {
    each(async |store| {
        let owner = Owner::NOBODY;
        let created = store.create(&owner, conversation("c"), Vec::new()).await;
        assert_eq!(created, Ok(()));
        let append = |number: usize| {
            let mut its = items(&[&format!("i{number}")]);
            its[0].body = "x".repeat(if number.is_multiple_of(10) {
                3 << 20
            } else {
                10
            });
            let (kind, id) = (Kind::Conversation, "c".to_owned());
            store.write(
                &owner,
                vec![Change::Append {
                    kind,
                    id,
                    items: its,
                }],
            )
        };
        let done = join_all((0..100).map(append)).await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        let all = page(1000, Order::Ascending, None);
        let there = at(&owner, Kind::Conversation, "c");
        let mut found = 0;
        let mut after = None;
        loop {
            let next = crate::page(all.limit, Order::Ascending, after.as_deref());
            let part = store.items(there, Side::Input, &next).await.expect("items");
            found += part.data.len();
            after = part.data.last().map(|item| item.id.clone());
            if !part.has_more {
                break;
            }
        }
        assert_eq!(found, 100);
    })
    .await;
}
