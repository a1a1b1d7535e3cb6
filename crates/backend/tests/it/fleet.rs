//! Tests of a fleet whose nodes come and go while calls run.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use loggia_backend::fleet::Fleet;
use loggia_backend::{
    Abilities, Backend, BackendError, Call, ChatCall, Chunk, Event, Reply, ServedBy,
};
use loggia_wire::openai::Model;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// A node whose answers wait for a permit before each of their two events.
#[derive(Clone)]
struct Node {
    permits: Arc<Semaphore>,
}

impl Node {
    fn new(permits: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits)),
        }
    }
}

impl Backend for Node {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(std::future::ready(Ok(Arc::default())))
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let permits = Arc::clone(&self.permits);
        let events = futures_util::stream::iter(0..2).then(move |_| {
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                Ok(Event::Chunk(Chunk::default()))
            }
        });
        let reply = Reply {
            served_by: ServedBy::new("gpu", "m"),
            events: Box::pin(events),
        };
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let models = vec![Model::new("m", 0, "tests")];
        Box::pin(std::future::ready(Ok(models)))
    }
}

fn call() -> Call {
    let chat = json!({"model": "m", "messages": []});
    ChatCall::new("1", Arc::new(serde_json::from_value(chat).unwrap())).into()
}

fn fleet(nodes: &[(&str, &Node)]) -> Fleet {
    let fleet = Fleet::new("gpu", Handle::current());
    for (place, node) in nodes {
        fleet.add(*place, Arc::new((*node).clone()));
    }
    fleet
}

fn places(fleet: &Fleet) -> Vec<(String, bool)> {
    let nodes = fleet.nodes().into_iter();
    nodes
        .map(|node| (node.place.to_string(), node.is_draining))
        .collect()
}

#[tokio::test]
async fn a_drained_node_ends_its_answers_and_is_gone_after_the_last() {
    let (first, second) = (Node::new(1), Node::new(100));
    let fleet = fleet(&[("a", &first)]);
    let mut reply = fleet.start(call()).await.unwrap();
    assert_eq!(reply.served_by.node, None, "it is the only node");
    fleet.add("b", Arc::new(second));
    assert!(fleet.drain("a") && !fleet.drain("a") && !fleet.drain("c"));
    assert_eq!(
        places(&fleet),
        [("a".to_owned(), true), ("b".to_owned(), false)]
    );
    for _ in 0..3 {
        let other = fleet.start(call()).await.unwrap();
        assert_eq!(other.served_by.node.as_deref(), Some("2"));
    }
    first.permits.add_permits(1);
    assert!(reply.events.next().await.unwrap().is_ok());
    assert!(reply.events.next().await.unwrap().is_ok());
    assert_eq!(places(&fleet).len(), 2, "the answer has not ended");
    assert!(reply.events.next().await.is_none());
    assert_eq!(places(&fleet), [("b".to_owned(), false)]);
    // The lowest number that is free.
    fleet.add("c", Arc::new(Node::new(0)));
    assert_eq!(&*fleet.nodes()[1].name, "1");
    // No call is in flight.
    assert!(fleet.drain("b") && fleet.drain("c"));
    let refused = fleet.start(call()).await.err().unwrap();
    assert!(
        matches!(refused, BackendError::Unreachable { .. }),
        "{refused}"
    );
    assert!(fleet.ready().await.is_err() && fleet.models().await.is_err());
}

#[tokio::test]
async fn a_removed_node_ends_begun_answers_and_gives_the_others_away() {
    let (first, second) = (Node::new(1), Node::new(100));
    let fleet = fleet(&[("a", &first)]);
    fleet.watch_nodes();
    let mut begun = fleet.start(call()).await.unwrap();
    let waits = tokio::spawn({
        let fleet = fleet.clone();
        async move { fleet.start(call()).await }
    });
    while fleet.nodes()[0].in_flight < 2 {
        tokio::task::yield_now().await;
    }
    fleet.add("b", Arc::new(second));
    assert!(fleet.remove("a") && !fleet.remove("a"));
    let reply = waits.await.unwrap().unwrap();
    assert_eq!(reply.served_by.node.as_deref(), Some("2"));
    assert!(
        begun.events.next().await.unwrap().is_ok(),
        "it was received before"
    );
    let error = begun.events.next().await.unwrap().err().unwrap();
    assert!(error.to_string().contains("removed the node"), "{error}");
    assert!(begun.events.next().await.is_none());
}

#[tokio::test]
async fn a_removed_node_that_was_the_only_one_ends_its_calls() {
    let node = Node::new(1);
    let fleet = fleet(&[("a", &node)]);
    let mut reply = fleet.start(call()).await.unwrap();
    assert!(reply.events.next().await.unwrap().is_ok());
    assert!(fleet.remove("a"));
    let error = reply.events.next().await.unwrap().err().unwrap();
    assert!(matches!(error, BackendError::NodeRemoved { .. }), "{error}");
}
