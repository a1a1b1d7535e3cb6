//! The trait [`NodeStore`] keeps the nodes that operators add to backends and take from them while
//! servers run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::ready;

use super::StoreError;

/// Keeps the last wish of an operator about each node.
pub trait NodeStore: Send + Sync {
    /// Returns the wishes, in the order of their backends and places.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<StoredNode>, StoreError>>;

    /// Returns a number that differs if the wishes differ. It is asked for several times a second, so
    /// it must be cheap.
    fn node_version(&self) -> BoxFuture<'_, Result<i64, StoreError>>;

    /// Stores a wish. It replaces the earlier one about the same node.
    fn put_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets a wish, if it was not replaced since.
    fn forget_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A wish about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNode {
    /// The name of the backend.
    pub backend: String,
    /// The location of the node.
    pub place: String,
    /// The wish.
    pub wish: NodeWish,
    /// The time of the wish, in Unix seconds.
    pub changed: i64,
}

/// The state that an operator wants for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeWish {
    /// The node gets requests.
    Added,
    /// The node completes its requests and gets no more.
    Drained,
    /// The node is not used; its requests end with an error.
    Removed,
}

impl NodeWish {
    /// All wishes.
    pub const ALL: [Self; 3] = [Self::Added, Self::Drained, Self::Removed];

    /// Returns its name in stores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Drained => "drained",
            Self::Removed => "removed",
        }
    }

    /// Returns the wish with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.name() == name)
    }
}

/// Keeps wishes about nodes in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryNodeStore(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    nodes: Vec<StoredNode>,
    version: i64,
}

impl MemoryNodeStore {
    /// Nothing panics while it has the lock.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeStore for MemoryNodeStore {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<StoredNode>, StoreError>> {
        ready(Ok(self.kept().nodes.clone())).boxed()
    }

    fn node_version(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        ready(Ok(self.kept().version)).boxed()
    }

    fn put_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut kept = self.kept();
        let is_same =
            |other: &StoredNode| other.backend == node.backend && other.place == node.place;
        kept.nodes.retain(|other| !is_same(other));
        kept.nodes.push(node);
        let order = |node: &StoredNode| (node.backend.clone(), node.place.clone());
        kept.nodes.sort_by_key(order);
        kept.version += 1;
        ready(Ok(())).boxed()
    }

    fn forget_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut kept = self.kept();
        kept.nodes.retain(|other| *other != node);
        kept.version += 1;
        ready(Ok(())).boxed()
    }
}
