//! Changes that belong together, and holds: who is at work on an object.

use std::time::Duration;

use loggia_api::store::{Change, Filter, Kind, NeededHold, Order, Side, StoreError};

use crate::suite::{each, key};
use crate::{at, conversation, ids, items, on, page, response};

const LONG: Duration = Duration::from_mins(10);

fn hold(id: &str, holder: &str, time: Duration) -> Change {
    Change::Hold {
        kind: Kind::Response,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time,
    }
}

fn release(id: &str, holder: Option<&str>) -> Change {
    Change::Release {
        kind: Kind::Response,
        id: id.to_owned(),
        holder: holder.map(str::to_owned),
    }
}

fn renew(id: &str, holder: &str, time: Duration) -> Change {
    Change::Renew {
        kind: Kind::Response,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time,
    }
}

fn replace(id: &str, body: &str, its: &[&str], needs: Option<NeededHold>) -> Change {
    Change::Replace {
        kind: Kind::Response,
        id: id.to_owned(),
        body: body.to_owned(),
        items: on(Side::Output, its),
        needs,
    }
}

fn of(holder: &str) -> NeededHold {
    NeededHold::Of(holder.to_owned())
}

#[tokio::test]
async fn changes_are_made_in_their_order_all_or_none() {
    each(async |store| {
        let owner = key("a");
        let created = store.create(&owner, conversation("c"), items(&["a"])).await;
        assert_eq!(created, Ok(()));
        let turn = |its: &[&str]| {
            vec![
                Change::Create {
                    object: response("r", None),
                    items: items(its),
                },
                hold("r", "h", LONG),
                replace("r", "{}", &["out"], Some(of("h"))),
                Change::Append {
                    kind: Kind::Conversation,
                    id: "c".to_owned(),
                    items: items(its),
                },
                release("r", Some("h")),
            ]
        };
        let missing = |its: &[&str]| {
            let mut changes = turn(its);
            changes.push(release("r9", None));
            changes
        };
        for (changes, error) in [
            (
                turn(&["b", "a"]),
                StoreError::Duplicate { id: "a".to_owned() },
            ),
            (missing(&["b"]), StoreError::NotFound),
        ] {
            assert_eq!(store.write(&owner, changes).await, Err(error));
            assert!(ids(store, &owner, Kind::Response).await.is_empty());
        }
        assert_eq!(store.write(&owner, turn(&["b"])).await, Ok(()));
        let mut whole = response("r", None);
        "{}".clone_into(&mut whole.body);
        let there = at(&owner, Kind::Response, "r");
        assert_eq!(store.object(there).await, Ok(whole));
        let all = page(9, Order::Ascending, None);
        let found = store.items(there, Side::Output, &all).await.expect("items");
        assert_eq!(found.data, on(Side::Output, &["out"]));
        let there = at(&owner, Kind::Conversation, "c");
        let found = store.items(there, Side::Input, &all).await.expect("items");
        assert_eq!(found.data, items(&["a", "b"]));
        assert_eq!(store.write(&owner, Vec::new()).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn an_object_has_one_holder_until_it_releases_or_its_time_is_over() {
    each(async |store| {
        let owner = key("a");
        let write = async |change| store.write(&owner, vec![change]).await;
        let created = store.create(&owner, response("r", None), Vec::new()).await;
        assert_eq!(created, Ok(()));
        let is_held = async || {
            let object = store.object(at(&owner, Kind::Response, "r")).await;
            object.expect("an object").is_held
        };
        assert!(!is_held().await);
        assert_eq!(write(hold("r", "one", LONG)).await, Ok(()));
        assert!(is_held().await);
        assert_eq!(write(hold("r", "two", LONG)).await, Err(StoreError::InUse));
        assert_eq!(write(hold("r", "one", LONG)).await, Ok(()), "its own");
        // The release of another holder ends nothing.
        assert_eq!(write(release("r", Some("two"))).await, Ok(()));
        assert!(is_held().await);
        assert_eq!(write(release("r", Some("one"))).await, Ok(()));
        assert!(!is_held().await);
        assert_eq!(write(hold("r", "two", LONG)).await, Ok(()));
        assert_eq!(write(release("r", None)).await, Ok(()));
        assert!(!is_held().await);
        // A hold that has run out is in nobody's way.
        assert_eq!(write(hold("r", "one", Duration::ZERO)).await, Ok(()));
        assert!(!is_held().await);
        assert_eq!(write(hold("r", "two", LONG)).await, Ok(()));
        let (any, all) = (Filter::default(), page(9, Order::Ascending, None));
        let listed = store.objects(&owner, Kind::Response, &any, &all);
        assert!(listed.await.expect("a list").data[0].is_held);

        for change in [
            hold("r9", "one", LONG),
            renew("r9", "one", LONG),
            release("r9", None),
        ] {
            assert_eq!(write(change).await, Err(StoreError::NotFound));
        }
        let foreign = store.write(&key("b"), vec![hold("r", "one", LONG)]).await;
        assert_eq!(foreign, Err(StoreError::NotFound));
    })
    .await;
}

/// A server that was away for longer than its hold can go on if no other holder took the object in
/// the meantime.
#[tokio::test]
async fn a_hold_is_renewed_until_it_is_ended_or_another_holder_takes_the_object() {
    each(async |store| {
        let owner = key("a");
        let write = async |change| store.write(&owner, vec![change]).await;
        let created = store.create(&owner, response("r", None), Vec::new()).await;
        assert_eq!(created, Ok(()));
        let is_held = async || {
            let object = store.object(at(&owner, Kind::Response, "r")).await;
            object.expect("an object").is_held
        };
        assert_eq!(
            write(renew("r", "one", LONG)).await,
            Err(StoreError::InUse),
            "without a hold"
        );
        assert_eq!(write(hold("r", "one", Duration::ZERO)).await, Ok(()));
        assert_eq!(write(renew("r", "two", LONG)).await, Err(StoreError::InUse));
        assert!(!is_held().await);
        assert_eq!(write(renew("r", "one", LONG)).await, Ok(()), "it ran out");
        assert!(is_held().await);
        assert_eq!(write(renew("r", "one", Duration::ZERO)).await, Ok(()));
        assert_eq!(write(hold("r", "two", Duration::ZERO)).await, Ok(()));
        assert_eq!(
            write(renew("r", "one", LONG)).await,
            Err(StoreError::InUse),
            "another has taken it"
        );
        assert_eq!(write(release("r", Some("two"))).await, Ok(()), "it ran out");
        assert_eq!(
            write(renew("r", "two", LONG)).await,
            Err(StoreError::InUse),
            "it was ended"
        );
    })
    .await;
}

#[tokio::test]
async fn a_body_is_replaced_only_while_there_is_the_needed_hold() {
    each(async |store| {
        let owner = key("a");
        let write = async |change| store.write(&owner, vec![change]).await;
        let created = store
            .create(&owner, response("r", None), items(&["in"]))
            .await;
        assert_eq!(created, Ok(()));
        // The written names, in order: the body and the item of each change have the same name.
        let mut written = Vec::new();
        let mut check = async |when: &str, allowed: [bool; 4]| {
            let needs = [of("one"), of("two"), NeededHold::Any, NeededHold::RunOut];
            for (needed, is_allowed) in needs.into_iter().zip(allowed) {
                let name = format!("{when}, {needed:?}");
                let replaced = write(replace("r", &name, &[&name], Some(needed))).await;
                let expected = if is_allowed {
                    Ok(())
                } else {
                    Err(StoreError::InUse)
                };
                assert_eq!(replaced, expected, "{name}");
                written.extend(is_allowed.then_some(name));
            }
        };
        check("without a hold", [false; 4]).await;
        assert_eq!(write(hold("r", "one", LONG)).await, Ok(()));
        check("with a hold", [true, false, true, false]).await;
        assert_eq!(write(hold("r", "one", Duration::ZERO)).await, Ok(()));
        check("run out", [true, false, true, true]).await;
        assert_eq!(write(hold("r", "two", LONG)).await, Ok(()));
        check("taken by another", [false, true, true, false]).await;
        assert_eq!(write(release("r", None)).await, Ok(()));
        check("ended", [false; 4]).await;
        assert_eq!(write(replace("r", "any", &["any"], None)).await, Ok(()));
        written.push("any".to_owned());
        let there = at(&owner, Kind::Response, "r");
        assert_eq!(
            store.object(there).await.map(|found| found.body),
            Ok("any".to_owned())
        );
        let all = page(99, Order::Ascending, None);
        let found = store.items(there, Side::Output, &all).await.expect("items");
        let written: Vec<&str> = written.iter().map(String::as_str).collect();
        assert_eq!(found.data, on(Side::Output, &written));
        let missing = write(replace("r9", "", &[], None)).await;
        assert_eq!(missing, Err(StoreError::NotFound));
    })
    .await;
}
