//! Responses that continue each other, and items that are found by their ids.

use loggia_api::store::{
    Change, Item, Kind, MOST_BYTES_OF_A_CHAIN, MOST_OBJECTS_OF_A_CHAIN, Order, Owner, Side,
    StoreError,
};

use crate::suite::{each, key, roomy};
use crate::{at, chat, conversation, items, on, page, response};

/// A turn: an input item and two output items, the last one stored first.
fn turn(id: &str) -> Vec<Item> {
    let mut turn = on(Side::Output, &[&format!("{id}-out"), &format!("{id}-more")]);
    turn.extend(on(Side::Input, &[&format!("{id}-in")]));
    turn.extend(on(Side::Stream, &[&format!("{id}-event")]));
    turn
}

fn ids(found: Vec<Item>) -> Vec<String> {
    found.into_iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn a_chain_has_the_oldest_response_first_and_each_input_before_its_output() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Response);
        for (id, previous) in [("r1", None), ("r2", Some("r1")), ("empty", Some("r2"))] {
            let its = if id == "empty" { Vec::new() } else { turn(id) };
            let created = store.create(&owner, response(id, previous), its).await;
            assert_eq!(created, Ok(()));
        }
        // A branch, which is not part of the chain.
        let branch = store.create(&owner, response("r3", Some("r1")), turn("r3"));
        assert_eq!(branch.await, Ok(()));
        let last = store.create(&owner, response("r4", Some("empty")), turn("r4"));
        assert_eq!(last.await, Ok(()));
        let found = store.chain(at(&owner, kind, "r4")).await.expect("a chain");
        assert_eq!(
            ids(found),
            [
                "r1-in", "r1-out", "r1-more", "r2-in", "r2-out", "r2-more", "r4-in", "r4-out",
                "r4-more"
            ]
        );
        let first = store.chain(at(&owner, kind, "r1")).await.expect("a chain");
        assert_eq!(first[0], on(Side::Input, &["r1-in"])[0]);
        assert_eq!(first[1], on(Side::Output, &["r1-out"])[0]);
        let object = store.object(at(&owner, kind, "r2")).await;
        assert_eq!(object, Ok(response("r2", Some("r1"))));
        for id in ["r1", "r2", "empty", "r3", "r4"] {
            let oldest = store.oldest(at(&owner, kind, id)).await;
            assert_eq!(oldest, Ok(response("r1", None)), "{id}");
        }
        let missing = store.oldest(at(&key("b"), kind, "r4")).await;
        assert_eq!(missing, Err(StoreError::NotFound));
    })
    .await;
}

#[tokio::test]
async fn a_chain_that_is_missing_or_broken_is_reported_with_the_missing_id() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Response);
        for (id, previous) in [("r1", None), ("r2", Some("r1")), ("r3", Some("r2"))] {
            let created = store.create(&owner, response(id, previous), turn(id)).await;
            assert_eq!(created, Ok(()));
        }
        let other = response("r4", Some("r3"));
        let created = store.create(&key("b"), other, turn("r4")).await;
        assert_eq!(created, Ok(()));
        let broken = |id: &str| Err(StoreError::BrokenChain { id: id.to_owned() });
        // The objects of another key do not exist.
        assert_eq!(store.chain(at(&key("b"), kind, "r4")).await, broken("r3"));
        for (owner, kind, id) in [
            (&owner, kind, "r9"),
            (&owner, kind, "r4"),
            (&owner, Kind::Conversation, "r3"),
            (&Owner::NOBODY, kind, "r3"),
        ] {
            assert_eq!(
                store.chain(at(owner, kind, id)).await,
                Err(StoreError::NotFound)
            );
        }
        assert_eq!(store.delete(at(&owner, kind, "r1")).await, Ok(()));
        assert_eq!(store.chain(at(&owner, kind, "r3")).await, broken("r1"));
    })
    .await;
}

#[tokio::test]
async fn a_chain_of_too_many_bytes_is_refused() {
    roomy(async |store| {
        let (owner, kind) = (Owner::NOBODY, Kind::Response);
        let large = |id: &str, side, bytes| Item {
            id: id.to_owned(),
            body: "x".repeat(bytes),
            side,
        };
        let (half, quarter) = (MOST_BYTES_OF_A_CHAIN / 2, MOST_BYTES_OF_A_CHAIN / 4);
        // The events of a stream do not count.
        let first = vec![
            large("a", Side::Input, half),
            large("b", Side::Output, quarter),
            large("c", Side::Stream, half),
        ];
        let created = store.create(&owner, response("r1", None), first).await;
        assert_eq!(created, Ok(()));
        let created = store.create(&owner, response("r2", Some("r1")), Vec::new());
        assert_eq!(created.await, Ok(()));
        let rest = vec![large("d", Side::Output, quarter)];
        assert_eq!(store.append(at(&owner, kind, "r2"), rest).await, Ok(()));
        let last = vec![large("e", Side::Input, 1)];
        let created = store.create(&owner, response("r3", Some("r2")), last).await;
        assert_eq!(created, Ok(()));
        let found = store.chain(at(&owner, kind, "r2")).await.expect("a chain");
        assert_eq!(ids(found), ["a", "b", "d"]);
        let refused = store.chain(at(&owner, kind, "r3")).await;
        assert_eq!(refused, Err(StoreError::TooLong));

        let all = ["a", "b", "d"].map(str::to_owned);
        let found = store.find_items(&owner, &all).await.expect("items");
        assert_eq!(ids(found), all);
        let more = ["a", "b", "d", "e"].map(str::to_owned);
        let refused = store.find_items(&owner, &more).await;
        assert_eq!(refused, Err(StoreError::TooLong));
    })
    .await;
}

#[tokio::test]
async fn a_chain_of_too_many_responses_is_refused() {
    roomy(async |store| {
        let (owner, kind) = (Owner::NOBODY, Kind::Response);
        let name = |number: usize| format!("r{number}");
        let turn = |number: usize| {
            let previous = (number > 1).then(|| name(number - 1));
            Change::Create {
                object: response(&name(number), previous.as_deref()),
                items: items(&[&format!("i{number}")]),
            }
        };
        let numbers: Vec<usize> = (1..=MOST_OBJECTS_OF_A_CHAIN + 1).collect();
        for some in numbers.chunks(500) {
            let turns = some.iter().map(|number| turn(*number)).collect();
            assert_eq!(store.write(&owner, turns).await, Ok(()));
        }
        let longest = name(MOST_OBJECTS_OF_A_CHAIN);
        let found = store
            .chain(at(&owner, kind, &longest))
            .await
            .expect("a chain");
        assert_eq!(found.len(), MOST_OBJECTS_OF_A_CHAIN);
        assert_eq!(found[0].id, "i1");
        assert_eq!(
            found[MOST_OBJECTS_OF_A_CHAIN - 1].id,
            format!("i{MOST_OBJECTS_OF_A_CHAIN}")
        );
        let longer = name(MOST_OBJECTS_OF_A_CHAIN + 1);
        let refused = store.chain(at(&owner, kind, &longer)).await;
        assert_eq!(refused, Err(StoreError::TooLong));
    })
    .await;
}

#[tokio::test]
async fn items_are_found_by_their_ids_alone_the_newest_of_each() {
    each(async |store| {
        let owner = key("a");
        let say = |id: &str, text: &str, side| Item {
            id: id.to_owned(),
            body: format!("\"{text}\""),
            side,
        };
        let its = vec![
            say("msg", "old", Side::Input),
            say("rs", "thought", Side::Output),
        ];
        let created = store.create(&owner, response("r1", None), its).await;
        assert_eq!(created, Ok(()));
        let its = vec![
            say("msg", "new", Side::Input),
            say("rs", "event", Side::Stream),
        ];
        let created = store.create(&owner, response("r2", Some("r1")), its).await;
        assert_eq!(created, Ok(()));
        let created = store
            .create(&owner, conversation("c"), items(&["item"]))
            .await;
        assert_eq!(created, Ok(()));
        // The messages of chats and the items of other owners are not found.
        let created = store.create(&owner, chat("chat", "m", &[]), items(&["msg", "chat-0"]));
        assert_eq!(created.await, Ok(()));
        let theirs = vec![
            say("msg", "theirs", Side::Input),
            say("their", "own", Side::Input),
        ];
        let created = store.create(&key("b"), response("r3", None), theirs).await;
        assert_eq!(created, Ok(()));

        let find = async |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            store.find_items(&owner, &ids).await
        };
        assert_eq!(
            find(&["item", "msg", "chat-0", "their", "rs", "msg", "none"]).await,
            Ok(vec![
                items(&["item"])[0].clone(),
                say("msg", "new", Side::Input),
                say("rs", "thought", Side::Output),
            ])
        );
        assert_eq!(find(&[]).await, Ok(Vec::new()));
        // An item that is added to an older object is newer.
        let kind = Kind::Conversation;
        let added = vec![say("msg", "newest", Side::Input)];
        assert_eq!(store.append(at(&owner, kind, "c"), added).await, Ok(()));
        let newest = vec![say("msg", "newest", Side::Input)];
        assert_eq!(find(&["msg"]).await, Ok(newest));
        assert!(
            store
                .delete_item(at(&owner, kind, "c"), "msg")
                .await
                .is_ok()
        );
        let new = vec![say("msg", "new", Side::Input)];
        assert_eq!(find(&["msg"]).await, Ok(new));
        // More than one statement asks for.
        let many: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).collect();
        let created = store.create(&owner, conversation("many"), items(&names));
        assert_eq!(created.await, Ok(()));
        assert_eq!(find(&names).await, Ok(items(&names)));
    })
    .await;
}

#[tokio::test]
async fn each_side_of_an_object_is_a_list_of_its_own() {
    each(async |store| {
        let (owner, kind) = (key("a"), Kind::Response);
        // Both sides have an item with the same id.
        let mut its = on(Side::Input, &["a", "b"]);
        its.extend(on(Side::Output, &["b", "c"]));
        its.extend(on(Side::Stream, &["0", "1", "2"]));
        let created = store.create(&owner, response("r", None), its).await;
        assert_eq!(created, Ok(()));
        let there = at(&owner, kind, "r");
        for (side, ids) in [
            (Side::Input, &["a", "b"][..]),
            (Side::Output, &["b", "c"]),
            (Side::Stream, &["0", "1", "2"]),
        ] {
            let all = page(9, Order::Ascending, None);
            let found = store.items(there, side, &all).await.expect("items");
            assert_eq!(found.data, on(side, ids));
            let rest = page(9, Order::Descending, Some(ids[1]));
            let found = store.items(there, side, &rest).await.expect("items");
            assert_eq!(found.data, on(side, &ids[..1]));
            let after = page(9, Order::Ascending, Some("x"));
            let refused = store.items(there, side, &after).await;
            assert_eq!(refused, Err(StoreError::AfterNotFound));
        }
        // Single items are input items.
        assert_eq!(store.item(there, "b").await, Ok(items(&["b"])[0].clone()));
        for other in ["c", "0"] {
            let refused = Err(StoreError::ItemNotFound);
            assert_eq!(store.item(there, other).await, refused);
            assert_eq!(
                store.delete_item(there, other).await,
                Err(StoreError::ItemNotFound)
            );
        }
        let twice = store.append(there, on(Side::Output, &["d", "c"])).await;
        let id = "c".to_owned();
        assert_eq!(twice, Err(StoreError::Duplicate { id }));
    })
    .await;
}
