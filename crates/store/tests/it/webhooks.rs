//! The queue of webhook events: claimed by one server, made due later, and counted.

use std::time::Duration;

use loggia_api::store::{
    Change, Claimed, Filter, Kind, Metadata, NeededHold, Object, Store, StoreError,
};

use crate::suite::{each, key};
use crate::{at, conversation};

const KIND: Kind = Kind::WebhookDelivery;
const FAR: u64 = 4_000_000_000;

fn queued(id: &str, endpoint: &str, due: u64) -> Vec<Change> {
    let object = Object {
        kind: KIND,
        metadata: Metadata::from([("endpoint".to_owned(), endpoint.to_owned())]),
        body: r#"{"attempts":0}"#.to_owned(),
        ..conversation(id)
    };
    let create = Change::Create {
        object,
        items: Vec::new(),
    };
    vec![create, schedule(id, due)]
}

fn schedule(id: &str, due: u64) -> Change {
    Change::Schedule {
        kind: KIND,
        id: id.to_owned(),
        due: Some(due),
        content: 0,
    }
}

/// The changes that make an event due later.
fn postponed(id: &str, holder: &str, due: u64) -> Vec<Change> {
    let replace = Change::Replace {
        kind: KIND,
        id: id.to_owned(),
        body: r#"{"attempts":1}"#.to_owned(),
        items: Vec::new(),
        needs: Some(NeededHold::Of(holder.to_owned())),
    };
    let release = Change::Release {
        kind: KIND,
        id: id.to_owned(),
        holder: Some(holder.to_owned()),
    };
    vec![replace, schedule(id, due), release]
}

async fn claim(store: &dyn Store, holder: &str, time: Duration) -> Option<Claimed> {
    store.claim(KIND, holder, time).await.expect("an answer")
}

#[tokio::test]
async fn an_event_is_sent_by_one_server_and_by_another_one_if_that_was_killed() {
    const MINUTE: Duration = Duration::from_mins(1);
    each(async |store| {
        let owner = key("a");
        for id in ["wh_1", "wh_2"] {
            let written = store.write(&owner, queued(id, "whe_1", 1)).await;
            assert_eq!(written, Ok(()));
        }
        let (one, two) = tokio::join!(claim(store, "one", MINUTE), claim(store, "two", MINUTE));
        let mut ids: Vec<String> = [one, two]
            .into_iter()
            .flatten()
            .map(|claimed| claimed.object.id)
            .collect();
        // Under contention a claim may find nothing.
        ids.extend(
            claim(store, "late", MINUTE)
                .await
                .map(|late| late.object.id),
        );
        ids.sort();
        assert_eq!(ids, ["wh_1", "wh_2"]);
        assert_eq!(claim(store, "three", MINUTE).await, None);

        // The hold of a server that was killed runs out.
        let written = store.write(&owner, queued("wh_3", "whe_1", 1)).await;
        assert_eq!(written, Ok(()));
        let killed = claim(store, "killed", Duration::ZERO).await;
        assert_eq!(
            killed.map(|claimed| claimed.object.id),
            Some("wh_3".to_owned())
        );
        let next = claim(store, "next", MINUTE).await.expect("it is due");
        assert_eq!(
            (next.owner, next.object.id.as_str()),
            (owner.clone(), "wh_3")
        );
        // A late write of the first server changes nothing.
        let late = store.write(&owner, postponed("wh_3", "killed", FAR)).await;
        assert_eq!(late, Err(StoreError::InUse));
        let stored = store.write(&owner, postponed("wh_3", "next", 1)).await;
        assert_eq!(stored, Ok(()));
        let again = claim(store, "again", MINUTE).await.expect("it is due");
        assert_eq!(again.object.body, r#"{"attempts":1}"#);
        let stored = store.write(&owner, postponed("wh_3", "again", FAR)).await;
        assert_eq!(stored, Ok(()));
        assert_eq!(claim(store, "early", MINUTE).await, None);
    })
    .await;
}

#[tokio::test]
async fn the_waiting_events_of_a_key_are_counted_by_endpoint() {
    each(async |store| {
        let (a, b) = (key("a"), key("b"));
        for (owner, id, endpoint) in [
            (&a, "wh_1", "whe_1"),
            (&a, "wh_2", "whe_2"),
            (&a, "wh_3", "whe_2"),
            (&b, "wh_4", "whe_2"),
        ] {
            let written = store.write(owner, queued(id, endpoint, FAR)).await;
            assert_eq!(written, Ok(()));
        }
        let counted = async || {
            let filter = Filter::default();
            let counts = store.counts(&a, KIND, &filter, "endpoint").await;
            let counts = counts.expect("the store works").into_iter();
            let mut counts: Vec<_> = counts.map(|one| (one.value, one.objects)).collect();
            counts.sort();
            counts
        };
        let expected = [("whe_1".to_owned(), 1), ("whe_2".to_owned(), 2)];
        assert_eq!(counted().await, expected);
        let deleted = store.delete(at(&a, KIND, "wh_1")).await;
        assert_eq!(deleted, Ok(()));
        assert_eq!(counted().await, expected[1..]);
    })
    .await;
}
