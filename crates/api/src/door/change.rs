//! The settings of a door that change while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use loggia_backend::Backend;
use loggia_backend::fetch_images::WebhookSender;

use super::Door;
use crate::mcp::McpClient;
use crate::{Documents, Policy};

/// The settings of a door for requests that begin from now on.
#[derive(Clone)]
pub struct DoorChange {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// The policy.
    pub policy: Policy,
    /// The client for MCP servers. `None`: the one with which the door was created.
    pub mcp: Option<Arc<dyn McpClient>>,
    /// The reader of documents. `None`: the one with which the door was created.
    pub documents: Option<Arc<dyn Documents>>,
    /// The sender of webhooks. `None`: the one with which the door was created.
    pub webhooks: Option<Arc<WebhookSender>>,
}

impl DoorChange {
    /// Creates a change of the backend and the policy only.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy) -> Self {
        Self {
            backend,
            policy,
            mcp: None,
            documents: None,
            webhooks: None,
        }
    }
}

/// The settings of the last [`DoorChange`].
#[derive(Clone)]
pub(super) struct Latest {
    backend: Arc<dyn Backend>,
    policy: Arc<Policy>,
    mcp: Option<Arc<dyn McpClient>>,
    documents: Option<Arc<dyn Documents>>,
    webhooks: Option<Arc<WebhookSender>>,
}

impl Latest {
    pub(super) fn of(backend: &Arc<dyn Backend>, policy: &Arc<Policy>) -> Arc<RwLock<Self>> {
        Arc::new(RwLock::new(Self {
            backend: Arc::clone(backend),
            policy: Arc::clone(policy),
            mcp: None,
            documents: None,
            webhooks: None,
        }))
    }
}

impl Door {
    /// Changes the settings of this door and all its clones, for requests that begin from now on.
    /// Running ones keep those with which they began.
    pub fn change(&self, change: DoorChange) {
        let DoorChange {
            backend,
            policy,
            mcp,
            documents,
            webhooks,
        } = change;
        let policy = Arc::new(policy);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        *latest = Latest {
            backend,
            policy,
            mcp,
            documents,
            webhooks,
        };
    }

    /// Returns whether this door has the settings of the last [`change`](Self::change).
    #[must_use]
    pub fn is_current(&self) -> bool {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        // Each change has a policy of its own.
        Arc::ptr_eq(&latest.policy, &self.policy)
    }

    /// Returns the door for a request that begins now, with the settings of the last
    /// [`change`](Self::change). A door that serves for a long time is asked for each request.
    #[must_use]
    pub fn current(&self) -> Self {
        if self.is_current() {
            return self.clone();
        }
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let Latest {
            backend,
            policy,
            mcp,
            documents,
            webhooks,
        } = latest.clone();
        drop(latest);
        let door = self.clone();
        Self {
            embeds: Arc::clone(&backend),
            backend,
            policy,
            mcp: mcp.or(door.mcp),
            documents: documents.or(door.documents),
            webhooks: webhooks.or(door.webhooks),
            ..door
        }
    }
}
