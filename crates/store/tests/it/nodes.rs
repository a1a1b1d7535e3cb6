//! The nodes of backends, over every kind of store.

use std::sync::Arc;

use loggia_api::store::{MemoryNodeStore, NodeStore, NodeWish, StoredNode};
use loggia_store::{Retention, SqlStore};

use crate::postgres;

fn node(place: &str, wish: NodeWish) -> StoredNode {
    StoredNode {
        backend: "gpu".to_owned(),
        place: place.to_owned(),
        wish,
        changed: 1_700_000_000,
    }
}

async fn the_last_wish_about_a_node_is_kept(store: &dyn NodeStore) {
    assert_eq!(store.nodes().await, Ok(Vec::new()));
    let mut versions = vec![store.node_version().await.expect("a version")];
    let (added, other) = (
        node("http://a", NodeWish::Added),
        node("http://b", NodeWish::Removed),
    );
    let mut changed = async || versions.push(store.node_version().await.expect("a version"));
    store.put_node(other.clone()).await.expect("stored");
    changed().await;
    store.put_node(added.clone()).await.expect("stored");
    changed().await;
    assert_eq!(store.nodes().await, Ok(vec![added.clone(), other.clone()]));
    let drained = node("http://a", NodeWish::Drained);
    store.put_node(drained.clone()).await.expect("stored");
    changed().await;
    assert_eq!(
        store.nodes().await,
        Ok(vec![drained.clone(), other.clone()])
    );
    // It was replaced meanwhile.
    store.forget_node(added).await.expect("forgotten");
    assert_eq!(store.nodes().await, Ok(vec![drained.clone(), other]));
    store.forget_node(drained).await.expect("forgotten");
    changed().await;
    assert_eq!(store.nodes().await.map(|nodes| nodes.len()), Ok(1));
    assert_eq!(versions.len(), 5);
    for pair in versions.windows(2) {
        assert_ne!(pair[0], pair[1], "{versions:?}");
    }
}

#[tokio::test]
async fn wishes_about_nodes_are_kept_in_memory() {
    the_last_wish_about_a_node_is_kept(&MemoryNodeStore::default()).await;
}

#[tokio::test]
async fn wishes_about_nodes_are_kept_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = SqlStore::in_file(&path, Retention::default());
    assert_eq!(store.node_version().await, Ok(0));
    assert!(!path.exists(), "looking for nodes makes no file");
    the_last_wish_about_a_node_is_kept(&store).await;

    // Another program has the same file open.
    let other = SqlStore::in_file(&path, Retention::default());
    assert_eq!(other.nodes().await, store.nodes().await);
    assert_eq!(other.node_version().await, store.node_version().await);
}

#[tokio::test]
async fn wishes_about_nodes_are_kept_in_postgresql() {
    let Some(url) = postgres::database().await else {
        return;
    };
    let store = SqlStore::in_database(&url, Retention::default()).expect("an address");
    let store: Arc<dyn NodeStore> = Arc::new(store);
    the_last_wish_about_a_node_is_kept(&*store).await;
}
