//! What a store is asked to do when an operator adds, drains or removes a node: the same for the
//! admin API and for `loggia nodes`.

use loggia_api::store::{NodeStore, NodeWish, StoreError, StoredNode};
use loggia_server::NodeChangeError;

use crate::clock;
use crate::config::Url;

/// A change of the stored wishes.
pub(crate) enum StoreChange {
    Put(StoredNode),
    Forget(StoredNode),
}

impl StoreChange {
    /// Returns the change that adds a node. A node of the configuration is added by forgetting that
    /// it was drained or removed, which is the `earlier` wish about it.
    pub(crate) fn add(
        backend: &str,
        place: &str,
        is_configured: bool,
        earlier: Option<&StoredNode>,
    ) -> Result<Self, NodeChangeError> {
        if is_configured {
            return earlier.cloned().map(Self::Forget).ok_or_else(|| {
                let (backend, place) = (backend.to_owned(), place.to_owned());
                NodeChangeError::Twice { backend, place }
            });
        }
        let url = place.parse::<Url>();
        let url = url.map_err(|error| NodeChangeError::Url(error.to_string()))?;
        if url.by_dns {
            let why = "a name whose addresses are nodes belongs into the configuration, which is reloaded without a restart";
            return Err(NodeChangeError::Url(why.to_owned()));
        }
        Ok(Self::put(backend, place, NodeWish::Added))
    }

    /// Returns the change that stores this wish.
    pub(crate) fn put(backend: &str, place: &str, wish: NodeWish) -> Self {
        Self::Put(StoredNode {
            backend: backend.to_owned(),
            place: place.to_owned(),
            wish,
            changed: clock::unix_seconds(),
        })
    }

    /// Makes the change.
    pub(crate) async fn store_in(self, store: &dyn NodeStore) -> Result<(), StoreError> {
        match self {
            Self::Put(wish) => store.put_node(wish).await,
            Self::Forget(wish) => store.forget_node(wish).await,
        }
    }
}
