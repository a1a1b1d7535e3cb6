//! The routes that add, drain and remove the nodes of backends, under `/admin/nodes`: for keys with
//! the scope `admin` only. The program has the nodes; it implements [`Nodes`].
//!
//! | route | what it does |
//! |---|---|
//! | `GET /admin/nodes` | lists the nodes of all backends |
//! | `POST /admin/nodes` | adds a node to a backend |
//! | `GET /admin/nodes/{id}` | returns one |
//! | `POST /admin/nodes/{id}/drain` | lets it end its requests, and then removes it |
//! | `DELETE /admin/nodes/{id}` | removes it at once: its requests end with an error |

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use loggia_api::ApiError;
use loggia_api::store::{NodeWish, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::json_answer;
use crate::keys::admin::{Answer, body, refused};

/// The path below which all routes are.
pub(crate) const PATH: &str = "/admin/nodes";
pub(crate) const NODE: &str = "/admin/nodes/{id}";
const DRAIN: &str = "/admin/nodes/{id}/drain";

/// The nodes of the backends, which come and go while the server runs.
pub trait Nodes: Send + Sync {
    /// Returns the nodes of all backends, those that are drained included.
    fn nodes(&self) -> Vec<Node>;

    /// Returns the node with this id; of several, the one that gets requests. A node that was
    /// drained and added again may still end its requests.
    fn node(&self, id: &str) -> Option<Node> {
        let nodes = self.nodes().into_iter();
        let found = nodes.filter(|node| node.id == id);
        found.max_by_key(|node| node.state == NodeStatus::Active)
    }

    /// Adds, drains or removes a node, here and at all servers with the same store. Returns the node
    /// after the change, unless it is gone.
    fn change(&self, change: NodeChange) -> BoxFuture<'_, Result<Option<Node>, NodeChangeError>>;
}

/// A node of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The id of the node, the same at all servers: [`node_id`].
    pub id: String,
    /// The name of the backend.
    pub backend: String,
    /// The name of the node in `x-loggia-served-by`, at this server. `None` if the node was drained.
    pub name: Option<String>,
    /// The location of the node: a URL, and the address if the node is one address of a DNS name.
    pub place: String,
    /// Whether the configuration names the node.
    pub is_configured: bool,
    /// Whether the node gets requests.
    pub state: NodeStatus,
    /// Whether the node answers. `None` if its health is not watched.
    pub is_up: Option<bool>,
    /// The number of requests in flight at the node. `None` if they are not counted.
    pub in_flight: Option<usize>,
}

/// Whether a node gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// The node gets requests while it answers.
    Active,
    /// The node completes its requests and gets no more.
    Draining,
    /// An operator has drained or removed the node, which the configuration still names.
    Drained,
}

/// A change of a node by an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeChange {
    /// The name of the backend.
    pub backend: String,
    /// The location of the node.
    pub place: String,
    /// The new state of the node.
    pub wish: NodeWish,
}

/// The reason why a node was not changed.
#[derive(Debug, Error)]
pub enum NodeChangeError {
    /// No backend has this name, or the backend has no nodes, like the built-in engine.
    #[error("There is no backend '{0}' whose nodes can be changed.")]
    UnknownBackend(String),
    /// The location is not a URL.
    #[error("Invalid 'url': {0}.")]
    Url(String),
    /// The backend has this node already.
    #[error("The backend '{backend}' has the node {place} already.")]
    Twice {
        /// The name of the backend.
        backend: String,
        /// The location of the node.
        place: String,
    },
    /// The backend has no such node.
    #[error("The backend '{backend}' has no node {place}.")]
    Unknown {
        /// The name of the backend.
        backend: String,
        /// The location of the node.
        place: String,
    },
    /// The change cannot be stored.
    #[error("The change cannot be stored now.")]
    Store(#[from] StoreError),
}

/// Returns the id of a node: the same at all servers.
pub fn node_id(backend: &str, place: &str) -> String {
    let digest = Sha256::digest(format!("{backend}\n{place}"));
    let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
    format!("node_{}", digits.collect::<String>())
}

impl Node {
    /// Returns the node as the admin API shows it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "object": "node",
            "id": self.id,
            "backend": self.backend,
            "name": self.name,
            "place": self.place,
            "configured": self.is_configured,
            "state": match self.state {
                NodeStatus::Active => "active",
                NodeStatus::Draining => "draining",
                NodeStatus::Drained => "drained",
            },
            "up": self.is_up,
            "in_flight": self.in_flight,
        })
    }
}

/// The path of a route as the table has it, if the path is one of them.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix(PATH)?;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Some(PATH),
        None => None,
        Some(rest) if rest.ends_with("/drain") => Some(DRAIN),
        Some(_) => Some(NODE),
    }
}

/// Returns the routes.
pub(crate) fn routes(nodes: Arc<dyn Nodes>) -> Router {
    Router::new()
        .route(PATH, get(list).post(add))
        .route(NODE, get(find).delete(remove))
        .route(DRAIN, post(drain))
        .with_state(nodes)
}

type Shared = State<Arc<dyn Nodes>>;

async fn list(State(nodes): Shared) -> Response<Body> {
    let data: Vec<Value> = nodes.nodes().iter().map(Node::shown).collect();
    json_answer(&json!({"object": "list", "data": data}))
}

async fn find(State(nodes): Shared, Path(id): Path<String>) -> Answer {
    Ok(json_answer(&node(&*nodes, &id)?.shown()))
}

async fn add(State(nodes): Shared, request: Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Add {
        backend: String,
        url: String,
    }
    let Add { backend, url } = body(request).await?;
    let added = NodeChange {
        backend,
        place: url,
        wish: NodeWish::Added,
    };
    let added = nodes.change(added).await.map_err(not_changed)?;
    let shown = added.map_or_else(|| json!({"object": "node"}), |node| node.shown());
    Ok(json_answer(&shown))
}

async fn drain(State(nodes): Shared, Path(id): Path<String>) -> Answer {
    let node = node(&*nodes, &id)?;
    let drained = change(&node, NodeWish::Drained);
    let changed = nodes.change(drained).await.map_err(not_changed)?;
    let state = changed.map_or(NodeStatus::Drained, |node| node.state);
    let drained = Node { state, ..node };
    Ok(json_answer(&drained.shown()))
}

async fn remove(State(nodes): Shared, Path(id): Path<String>) -> Answer {
    let node = node(&*nodes, &id)?;
    let removed = change(&node, NodeWish::Removed);
    nodes.change(removed).await.map_err(not_changed)?;
    Ok(json_answer(
        &json!({"object": "node.deleted", "id": id, "deleted": true}),
    ))
}

fn change(node: &Node, wish: NodeWish) -> NodeChange {
    NodeChange {
        backend: node.backend.clone(),
        place: node.place.clone(),
        wish,
    }
}

/// Returns the node with this id, or the error that there is none.
fn node(nodes: &dyn Nodes, id: &str) -> Result<Node, Response<Body>> {
    nodes.node(id).ok_or_else(|| {
        let message = format!("There is no node '{id}'.");
        refused(ApiError::new(StatusCode::NOT_FOUND, message).coded("not_found"))
    })
}

fn not_changed(error: NodeChangeError) -> Response<Body> {
    let message = error.to_string();
    refused(match error {
        NodeChangeError::UnknownBackend(_) => ApiError::invalid("backend", "not_found", &message),
        NodeChangeError::Url(_) => ApiError::invalid("url", "invalid_value", &message),
        NodeChangeError::Twice { .. } => {
            let error = ApiError::new(StatusCode::CONFLICT, message);
            error.about("url").coded("node_exists").not_again()
        }
        NodeChangeError::Unknown { .. } => {
            ApiError::new(StatusCode::NOT_FOUND, message).coded("not_found")
        }
        NodeChangeError::Store(error) => {
            tracing::warn!(%error, "a change of a node cannot be stored");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("store_unavailable")
        }
    })
}
