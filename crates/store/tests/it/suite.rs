//! Tests that every store must pass.

use std::sync::Arc;
use std::time::Duration;

use loggia_api::MemoryStore;
use loggia_api::store::{
    Filter, Item, Kind, Listed, MOST_BYTES_OF_A_PAGE, Order, Owner, Side, Store, StoreError,
};
use loggia_seal::Keys;
use loggia_store::{Retention, SqlStore};

use crate::postgres::database;
use crate::{at, chat, conversation, ids, items, labels, on, page, response};

/// Runs a test over every store.
pub(crate) async fn each(test: impl AsyncFn(&dyn Store)) {
    test(&MemoryStore::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deeper/state.db");
    test(&SqlStore::in_file(path, Retention::default())).await;
    let path = folder.path().join("encrypted.db");
    let keys = Arc::new(Keys::random());
    let store = SqlStore::in_file(path, Retention::default());
    test(&store.with_keys(keys, true)).await;
    if let Some(url) = database().await {
        let store = SqlStore::in_database(&url, Retention::default());
        test(&store.expect("an address")).await;
    }
}

/// Runs a test over every store, with room for large objects.
pub(crate) async fn roomy(test: impl AsyncFn(&dyn Store)) {
    test(&MemoryStore::with_room_for(1 << 30)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    test(&SqlStore::in_file(path, Retention::default())).await;
    if let Some(url) = database().await {
        let store = SqlStore::in_database(&url, Retention::default());
        test(&store.expect("an address")).await;
    }
}

pub(crate) fn key(name: &str) -> Owner {
    Owner::new(Some(name.into()))
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_stored() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::ChatCompletion);
        let mut object = chat(
            "chatcmpl-1",
            "m",
            &[("topic", "é\"\n'; DROP TABLE objects")],
        );
        object.body = r#"{"text":"\u0000 😀 'quoted' \"too\""}"#.to_owned();
        let stored = items(&["x-0", "x-1"]);
        assert_eq!(store.ready().await, Ok(()));
        assert_eq!(
            store.create(&owner, object.clone(), stored.clone()).await,
            Ok(())
        );
        let found = at(&owner, kind, "chatcmpl-1");
        assert_eq!(store.object(found).await, Ok(object));
        let all = store
            .items(found, Side::Input, &page(20, Order::Ascending, None))
            .await;
        assert_eq!(all.map(|all| all.data), Ok(stored.clone()));
        assert_eq!(store.item(found, "x-1").await, Ok(stored[1].clone()));
        assert_eq!(
            store.item(found, "x-2").await,
            Err(StoreError::ItemNotFound)
        );
    })
    .await;
}

#[tokio::test]
async fn an_object_comes_back_with_its_items_of_one_side_in_their_order() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Response);
        // More than one statement adds, and of several lengths.
        let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let [input, output] = [Side::Input, Side::Output].map(|side| on(side, &numbers));
        let all = [output.clone(), input.clone()].concat();
        let stored = response("resp_1", None);
        assert_eq!(store.create(&owner, stored.clone(), all).await, Ok(()));
        let none = response("resp_2", None);
        assert_eq!(store.create(&owner, none.clone(), Vec::new()).await, Ok(()));
        for (side, items) in [
            (Side::Input, input),
            (Side::Output, output),
            (Side::Stream, Vec::new()),
        ] {
            let found = store.object_with_items(at(&owner, kind, "resp_1"), side);
            assert_eq!(found.await, Ok((stored.clone(), items)), "{side:?}");
        }
        let found = store.object_with_items(at(&owner, kind, "resp_2"), Side::Output);
        assert_eq!(found.await, Ok((none, Vec::new())));
        for (owner, kind, id) in [
            (&key("b"), kind, "resp_1"),
            (&owner, Kind::Conversation, "resp_1"),
            (&owner, kind, "resp_3"),
        ] {
            let found = store.object_with_items(at(owner, kind, id), Side::Output);
            assert_eq!(found.await, Err(StoreError::NotFound));
        }
    })
    .await;
}

#[tokio::test]
async fn ids_and_labels_are_any_text() {
    let store_and_read = async |store: &dyn Store, text: &str, number: usize| {
        let owner = Owner::NOBODY;
        let stored = chat(&format!("chatcmpl-{number}{text}"), "m", &[(text, text)]);
        let messages = items(&[text, "x"]);
        let created = store.create(&owner, stored.clone(), messages.clone()).await;
        assert_eq!(created, Ok(()), "{text:?}");
        let there = at(&owner, Kind::ChatCompletion, &stored.id);
        let found = store.object_with_items(there, Side::Input).await;
        assert_eq!(found, Ok((stored.clone(), messages)), "{text:?}");
        let filter = Filter {
            metadata: stored.metadata.clone(),
            ..Filter::default()
        };
        let all = page(10, Order::Ascending, None);
        let listed = store.objects(&owner, Kind::ChatCompletion, &filter, &all);
        assert_eq!(listed.await.expect("a list").data, [stored], "{text:?}");
    };
    let texts = [
        "",
        "'\"",
        "\\u0041\\",
        "[0,1]",
        "{\"a\":1}",
        "é😀\u{fffd}",
        "\n\t\u{7f}",
        "1.0",
        "true",
    ];
    each(async |store| {
        for (number, text) in texts.into_iter().enumerate() {
            store_and_read(store, text, number).await;
        }
    })
    .await;
    // PostgreSQL has no text with NUL.
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqlStore::in_file(folder.path().join("state.db"), Retention::default());
    for (number, text) in ["\0", "a\0b", "a\0"].into_iter().enumerate() {
        store_and_read(&store, text, number).await;
    }
}

#[tokio::test]
async fn an_object_is_there_for_its_owner_and_by_its_kind_alone() {
    each(async |store| {
        // No name of a key equals that of `NOBODY`, whatever the name is.
        let owners = [key("a"), key("b"), key(""), key("key:"), Owner::NOBODY];
        for (index, owner) in owners.iter().enumerate() {
            let id = format!("conv_{index}");
            let created = store.create(owner, conversation(&id), items(&["i"])).await;
            assert_eq!(created, Ok(()));
        }
        for (index, owner) in owners.iter().enumerate() {
            let own = format!("conv_{index}");
            assert_eq!(ids(store, owner, Kind::Conversation).await, [own.as_str()]);
            assert!(ids(store, owner, Kind::ChatCompletion).await.is_empty());
            for other in (0..owners.len()).filter(|other| *other != index) {
                let id = format!("conv_{other}");
                refuses(store, owner, Kind::Conversation, &id).await;
            }
            refuses(store, owner, Kind::ChatCompletion, &own).await;
        }
        for (index, owner) in owners.iter().enumerate() {
            let id = format!("conv_{index}");
            let there = at(owner, Kind::Conversation, &id);
            assert_eq!(store.object(there).await, Ok(conversation(&id)));
            assert_eq!(
                store.item(there, "i").await.map(|item| item.id),
                Ok("i".to_owned())
            );
        }
    })
    .await;
}

/// Asserts that every call fails with "not found" for an object that does not exist or has another
/// owner.
async fn refuses(store: &dyn Store, owner: &Owner, kind: Kind, id: &str) {
    let gone = || StoreError::NotFound;
    let there = at(owner, kind, id);
    let all = page(20, Order::Ascending, None);
    assert_eq!(store.object(there).await, Err(gone()));
    assert_eq!(
        store.set_metadata(there, labels(&[("a", "b")])).await,
        Err(gone())
    );
    assert_eq!(store.delete(there).await, Err(gone()));
    assert_eq!(store.append(there, items(&["j"])).await, Err(gone()));
    assert_eq!(store.items(there, Side::Input, &all).await, Err(gone()));
    assert_eq!(store.item(there, "i").await, Err(gone()));
    assert_eq!(store.delete_item(there, "i").await, Err(gone()));
    let after = page(20, Order::Ascending, Some(id));
    let listed = store.objects(owner, kind, &Filter::default(), &after).await;
    assert_eq!(listed, Err(StoreError::AfterNotFound));
}

#[tokio::test]
async fn a_list_comes_in_pages_in_both_directions() {
    each(async |store| {
        let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
        let names = ["c0", "c1", "c2", "c3", "c4"];
        for id in names {
            let created = store.create(&owner, conversation(id), items(&names)).await;
            assert_eq!(created, Ok(()));
        }
        let there = at(&owner, kind, "c2");
        for order in [Order::Ascending, Order::Descending] {
            let mut expected: Vec<&str> = names.to_vec();
            if order == Order::Descending {
                expected.reverse();
            }
            let (mut objects, mut of_one) = (Vec::new(), Vec::new());
            let mut after: Option<String> = None;
            for round in 0..3 {
                let page = page(2, order, after.as_deref());
                let listed = store.objects(&owner, kind, &Filter::default(), &page).await;
                let Listed { data, has_more } = listed.expect("a list");
                let listed = store
                    .items(there, Side::Input, &page)
                    .await
                    .expect("a list");
                assert_eq!((has_more, listed.has_more), (round < 2, round < 2));
                objects.extend(data.into_iter().map(|object| object.id));
                of_one.extend(listed.data.into_iter().map(|item| item.id));
                after = objects.last().cloned();
            }
            assert_eq!((objects, of_one), (owned(&expected), owned(&expected)));
        }
        let none = page(0, Order::Ascending, None);
        let listed = store.objects(&owner, kind, &Filter::default(), &none).await;
        assert_eq!(
            listed.map(|listed| (listed.data.len(), listed.has_more)),
            Ok((0, true))
        );
        let lost = page(2, Order::Ascending, Some("c9"));
        let listed = store.objects(&owner, kind, &Filter::default(), &lost).await;
        assert_eq!(listed, Err(StoreError::AfterNotFound));
        assert_eq!(
            store.items(there, Side::Input, &lost).await,
            Err(StoreError::AfterNotFound)
        );
    })
    .await;
}

/// Everything that clients store is bounded.
#[tokio::test]
async fn a_part_of_a_list_ends_early_where_its_entries_are_large() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = SqlStore::in_file(folder.path().join("state.db"), Retention::default());
    let stores: [&dyn Store; 2] = [&MemoryStore::with_room_for(1 << 30), &file];
    for store in stores {
        let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
        let large = |id: &str| {
            let body = "x".repeat(MOST_BYTES_OF_A_PAGE / 2);
            let id = id.to_owned();
            vec![Item {
                id,
                body,
                side: Side::Input,
            }]
        };
        let created = store.create(&owner, conversation("c"), Vec::new()).await;
        assert_eq!(created, Ok(()));
        let there = at(&owner, kind, "c");
        for id in ["a", "b", "c", "d", "e"] {
            assert_eq!(store.append(there, large(id)).await, Ok(()));
        }
        let mut pages = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let part = store
                .items(
                    there,
                    Side::Input,
                    &page(100, Order::Ascending, after.as_deref()),
                )
                .await;
            let Listed { data, has_more } = part.expect("a list");
            pages.push(data.len());
            after = data.last().map(|item| item.id.clone());
            if !has_more {
                break;
            }
        }
        assert_eq!(pages, [2, 2, 1]);
    }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn chats_are_filtered_by_model_and_labels_and_paged_all_the_same() {
    each(async |store| {
        let owner = key("a");
        for (id, model, metadata) in [
            ("1", "m", &[("topic", "x"), ("user", "u")][..]),
            ("2", "m", &[("topic", "y")]),
            ("3", "n", &[("topic", "x")]),
            ("4", "m", &[("topic", "x")]),
            ("5", "m", &[]),
        ] {
            let created = store
                .create(&owner, chat(id, model, metadata), Vec::new())
                .await;
            assert_eq!(created, Ok(()));
        }
        let found = async |model: Option<&str>, metadata: &[(&str, &str)], after: Option<&str>| {
            let filter = Filter {
                model: model.map(str::to_owned),
                metadata: labels(metadata),
            };
            let page = page(9, Order::Descending, after);
            let listed = store
                .objects(&owner, Kind::ChatCompletion, &filter, &page)
                .await;
            let data = listed.expect("a list").data.into_iter();
            data.map(|object| object.id).collect::<Vec<_>>()
        };
        assert_eq!(found(Some("m"), &[], None).await, ["5", "4", "2", "1"]);
        assert_eq!(found(None, &[("topic", "x")], None).await, ["4", "3", "1"]);
        assert_eq!(found(Some("m"), &[("topic", "x")], None).await, ["4", "1"]);
        assert_eq!(
            found(None, &[("topic", "x"), ("user", "u")], None).await,
            ["1"]
        );
        assert_eq!(
            found(None, &[("topic", "z")], None).await,
            Vec::<String>::new()
        );
        // A page may begin after an object that the filter excludes.
        assert_eq!(found(None, &[("topic", "x")], Some("2")).await, ["1"]);

        let there = at(&owner, Kind::ChatCompletion, "5");
        let changed = store.set_metadata(there, labels(&[("topic", "z")])).await;
        assert_eq!(changed, Ok(chat("5", "m", &[("topic", "z")])));
        assert_eq!(
            store.object(there).await,
            Ok(chat("5", "m", &[("topic", "z")]))
        );
        assert_eq!(found(None, &[("topic", "z")], None).await, ["5"]);
        let there = at(&owner, Kind::ChatCompletion, "4");
        assert!(store.set_metadata(there, labels(&[])).await.is_ok());
        assert_eq!(found(Some("m"), &[("topic", "x")], None).await, ["1"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_with_its_items() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Conversation);
        for id in ["c1", "c2"] {
            let created = store
                .create(&owner, conversation(id), items(&["i", "j"]))
                .await;
            assert_eq!(created, Ok(()));
        }
        assert_eq!(store.delete(at(&owner, kind, "c1")).await, Ok(()));
        refuses(store, &owner, kind, "c1").await;
        assert_eq!(ids(store, &owner, kind).await, ["c2"]);
        let there = at(&owner, kind, "c2");
        assert_eq!(store.delete_item(there, "i").await, Ok(conversation("c2")));
        assert_eq!(store.item(there, "i").await, Err(StoreError::ItemNotFound));
        assert_eq!(
            store.delete_item(there, "i").await,
            Err(StoreError::ItemNotFound)
        );
        let left = store
            .items(there, Side::Input, &page(9, Order::Ascending, None))
            .await;
        assert_eq!(left.map(|left| left.data), Ok(items(&["j"])));
    })
    .await;
}

#[tokio::test]
async fn items_are_added_at_the_end_all_or_none() {
    each(async |store| {
        let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
        let created = store.create(&owner, conversation("c"), items(&["a"])).await;
        assert_eq!(created, Ok(()));
        let there = at(&owner, kind, "c");
        assert_eq!(store.append(there, items(&["b", "c"])).await, Ok(()));
        for twice in [&["d", "b"][..], &["e", "e"]] {
            let id = twice[1].to_owned();
            let refused = store.append(there, items(twice)).await;
            assert_eq!(refused, Err(StoreError::Duplicate { id }));
        }
        let all = store
            .items(there, Side::Input, &page(9, Order::Ascending, None))
            .await;
        assert_eq!(all.map(|all| all.data), Ok(items(&["a", "b", "c"])));
        // Deleted items leave no gap in the order.
        assert!(store.delete_item(there, "b").await.is_ok());
        assert_eq!(store.append(there, items(&["b"])).await, Ok(()));
        let all = store
            .items(there, Side::Input, &page(9, Order::Descending, None))
            .await;
        assert_eq!(all.map(|all| all.data), Ok(items(&["b", "c", "a"])));
    })
    .await;
}

#[tokio::test]
async fn an_id_that_is_taken_changes_nothing() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Conversation);
        assert_eq!(
            store.create(&owner, conversation("c"), items(&["a"])).await,
            Ok(())
        );
        for (object, its, id) in [
            (conversation("c"), items(&["b"]), "c"),
            (conversation("d"), items(&["b", "b"]), "b"),
        ] {
            let refused = store.create(&key("other"), object, its).await;
            let id = id.to_owned();
            assert_eq!(refused, Err(StoreError::Duplicate { id }));
        }
        assert!(ids(store, &key("other"), kind).await.is_empty());
        let all = store
            .items(
                at(&owner, kind, "c"),
                Side::Input,
                &page(9, Order::Ascending, None),
            )
            .await;
        assert_eq!(all.map(|all| all.data), Ok(items(&["a"])));
    })
    .await;
}

/// A client that leaves drops the future of its call.
#[tokio::test]
async fn a_call_that_is_dropped_halfway_leaves_a_whole_object_or_none() {
    each(async |store| {
        let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
        for number in 0..60 {
            let id = format!("c{number}");
            let create = store.create(&owner, conversation(&id), items(&["a", "b", "c"]));
            let _ = tokio::time::timeout(Duration::from_micros(number * 15), create).await;
            let append = store.append(at(&owner, kind, &id), items(&["d", "e"]));
            let _ = tokio::time::timeout(Duration::from_micros(number * 15), append).await;
            let all = page(9, Order::Ascending, None);
            match store.items(at(&owner, kind, &id), Side::Input, &all).await {
                Err(error) => assert_eq!(error, StoreError::NotFound),
                Ok(found) => {
                    let ids: String = found.data.into_iter().map(|item| item.id).collect();
                    assert!(ids == "abc" || ids == "abcde", "{ids}");
                }
            }
        }
        assert_eq!(
            store.create(&owner, conversation("c"), items(&["a"])).await,
            Ok(())
        );
    })
    .await;
}

#[tokio::test]
async fn what_has_no_room_is_refused_whole_and_evicts_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = SqlStore::in_file(
        folder.path().join("state.db"),
        Retention {
            bytes: 1 << 20,
            ..Retention::default()
        },
    );
    let stores: [&dyn Store; 2] = [&MemoryStore::with_room_for(1 << 20), &file];
    for store in stores {
        let (owner, kind) = (Owner::NOBODY, Kind::Conversation);
        assert_eq!(
            store.create(&owner, conversation("c"), items(&["a"])).await,
            Ok(())
        );
        let large = || {
            let body = "x".repeat(2 << 20);
            vec![Item {
                id: "large".to_owned(),
                body,
                side: Side::Input,
            }]
        };
        let refused = store.create(&owner, conversation("d"), large()).await;
        assert_eq!(refused, Err(StoreError::Full));
        let refused = store.append(at(&owner, kind, "c"), large()).await;
        assert_eq!(refused, Err(StoreError::Full));
        assert_eq!(ids(store, &owner, kind).await, ["c"]);
        let all = store
            .items(
                at(&owner, kind, "c"),
                Side::Input,
                &page(9, Order::Ascending, None),
            )
            .await;
        assert_eq!(all.map(|all| all.data), Ok(items(&["a"])));
        // The store continues to work.
        assert_eq!(
            store.create(&owner, conversation("d"), items(&["a"])).await,
            Ok(())
        );
    }
}

#[tokio::test]
async fn the_oldest_make_room_for_new_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = SqlStore::in_file(
        folder.path().join("state.db"),
        Retention {
            bytes: 1 << 20,
            ..Retention::default()
        },
    );
    let stores: [&dyn Store; 2] = [&MemoryStore::with_room_for(1 << 20), &file];
    for store in stores {
        let owner = Owner::NOBODY;
        for number in 0..100 {
            let body = "x".repeat(40 << 10);
            let item = Item {
                id: "i".to_owned(),
                body,
                side: Side::Input,
            };
            let object = conversation(&format!("c{number}"));
            assert_eq!(
                store.create(&owner, object, vec![item]).await,
                Ok(()),
                "{number}"
            );
        }
        let left = ids(store, &owner, Kind::Conversation).await;
        let newest: Vec<_> = (100 - left.len()..100)
            .map(|number| format!("c{number}"))
            .collect();
        assert_eq!(left, newest);
        assert!((15..=26).contains(&left.len()), "{}", left.len());
    }
}
