//! The wishes of operators about nodes: followed in the store, so that all servers that share it have
//! the same nodes within a second, and changed by the admin API.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use loggia_api::store::{NodeStore, NodeWish, StoreError, StoredNode};
use loggia_server::{Node, NodeChange, NodeChangeError, Nodes, StoreFollower, node_id};

use super::Servers;
use super::change::StoreChange;
use crate::clock;

/// After how long the wish about a node that is not in the configuration is forgotten. All servers
/// have long noticed it.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

impl Servers {
    /// Reads the wishes that a store keeps, and uses it for new ones.
    pub(crate) async fn load(&self, store: Arc<dyn NodeStore>) -> Result<(), StoreError> {
        self.0.state().store = Arc::clone(&store);
        self.read(&*store).await
    }

    /// Reads the wishes whenever they have changed. It never ends. While the store is away, those
    /// that were read last hold.
    pub(crate) async fn follow(self) {
        let store = Arc::clone(&self.0.state().store);
        let mut follower = StoreFollower::new();
        loop {
            let version = || store.node_version();
            let warn = |error| tracing::warn!(%error, "the nodes that operators added and drained cannot be read");
            follower.look(version, || self.read(&*store), warn).await;
        }
    }

    async fn read(&self, store: &dyn NodeStore) -> Result<(), StoreError> {
        let wishes = store.nodes().await?;
        let mut state = self.0.state();
        state.wishes = wishes;
        state.sync();
        Ok(())
    }

    /// Returns the id of the node, and the change of the store.
    fn checked(&self, change: &NodeChange) -> Result<(String, StoreChange), NodeChangeError> {
        let state = self.0.state();
        let mut servers = state.servers.iter();
        let server = servers.find(|server| server.name == change.backend);
        let server =
            server.ok_or_else(|| NodeChangeError::UnknownBackend(change.backend.clone()))?;
        let place = server.kind.place(&change.place);
        let backend = change.backend.clone();
        let id = node_id(&backend, &place);
        let is_here = state.configured(server).iter().any(|it| it.place == place);
        let change = if change.wish == NodeWish::Added {
            if server.present.iter().any(|spec| spec.place == place) {
                return Err(NodeChangeError::Twice { backend, place });
            }
            let earlier = state
                .wishes
                .iter()
                .find(|wish| wish.backend == backend && server.kind.place(&wish.place) == place);
            StoreChange::add(&backend, &place, is_here, earlier)?
        } else if is_here || server.fleet.nodes().iter().any(|it| *it.place == *place) {
            StoreChange::put(&backend, &place, change.wish)
        } else {
            return Err(NodeChangeError::Unknown { backend, place });
        };
        Ok((id, change))
    }

    /// Returns the wishes about nodes that are gone everywhere.
    fn outdated(&self) -> Vec<StoredNode> {
        let state = self.0.state();
        let before = clock::unix_seconds() - i64::try_from(FORGOTTEN_AFTER.as_secs()).unwrap_or(0);
        let is_configured = |wish: &StoredNode| {
            let mut servers = state.servers.iter();
            servers.any(|server| {
                let mut configured = state.configured(server).into_iter();
                server.name == wish.backend && configured.any(|spec| spec.place == wish.place)
            })
        };
        let wishes = state.wishes.iter();
        let outdated = wishes.filter(|wish| {
            wish.wish != NodeWish::Added && wish.changed < before && !is_configured(wish)
        });
        outdated.cloned().collect()
    }
}

impl Nodes for Servers {
    fn nodes(&self) -> Vec<Node> {
        self.nodes_of(None)
    }

    fn change(&self, change: NodeChange) -> BoxFuture<'_, Result<Option<Node>, NodeChangeError>> {
        Box::pin(async move {
            let store = Arc::clone(&self.0.state().store);
            let (id, change) = self.checked(&change)?;
            change.store_in(&*store).await?;
            for outdated in self.outdated() {
                store.forget_node(outdated).await?;
            }
            self.read(&*store).await?;
            Ok(self.node(&id))
        })
    }
}
