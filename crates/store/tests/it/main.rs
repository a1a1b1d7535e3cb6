//! Tests that every store must pass, run over the stores in memory and in a file; and tests of the
//! file.

mod batches;
mod blobs;
mod chains;
mod chunks;
mod due;
mod encryption;
mod file;
mod holds;
mod keys;
mod kill;
mod nodes;
mod postgres;
mod retention;
mod s3;
mod suite;
mod usage;
mod webhooks;

use loggia_api::store::{
    Filter, Item, Kind, Metadata, Object, ObjectRef, Order, Owner, Page, Side, Store,
};

fn conversation(id: &str) -> Object {
    Object {
        kind: Kind::Conversation,
        id: id.to_owned(),
        created: 1_700_000_000,
        model: None,
        metadata: Metadata::new(),
        body: format!(r#"{{"id":"{id}"}}"#),
        previous: None,
        is_held: false,
    }
}

fn chat(id: &str, model: &str, metadata: &[(&str, &str)]) -> Object {
    Object {
        kind: Kind::ChatCompletion,
        model: Some(model.to_owned()),
        metadata: labels(metadata),
        ..conversation(id)
    }
}

fn response(id: &str, previous: Option<&str>) -> Object {
    Object {
        kind: Kind::Response,
        previous: previous.map(str::to_owned),
        ..conversation(id)
    }
}

fn labels(labels: &[(&str, &str)]) -> Metadata {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    labels.iter().map(owned).collect()
}

fn items(ids: &[&str]) -> Vec<Item> {
    on(Side::Input, ids)
}

fn on(side: Side, ids: &[&str]) -> Vec<Item> {
    let item = |id: &&str| Item {
        id: (*id).to_owned(),
        body: format!(r#"{{"id":"{id}","text":"says {id}"}}"#),
        side,
    };
    ids.iter().map(item).collect()
}

fn at<'a>(owner: &'a Owner, kind: Kind, id: &'a str) -> ObjectRef<'a> {
    ObjectRef { owner, kind, id }
}

fn page(limit: usize, order: Order, after: Option<&str>) -> Page {
    Page {
        after: after.map(str::to_owned),
        limit,
        order,
    }
}

/// The ids of all objects of an owner and a kind.
async fn ids(store: &dyn Store, owner: &Owner, kind: Kind) -> Vec<String> {
    let all = page(usize::MAX, Order::Ascending, None);
    let any = Filter::default();
    let listed = store
        .objects(owner, kind, &any, &all)
        .await
        .expect("a list");
    listed.data.into_iter().map(|object| object.id).collect()
}
