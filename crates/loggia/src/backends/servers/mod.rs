//! [`Servers`]: the Ollama servers and OpenAI engines, as a fleet for each name of a backend. Their
//! nodes come and go while the program runs: with the configuration when it is reloaded, with the
//! addresses of DNS names, and with the wishes of operators, which a store keeps.
//!
//! `plan.rs` says which nodes a backend should have, `names.rs` resolves names, `wishes.rs` follows
//! and changes the wishes of operators, `change.rs` says how a change of them is stored.

mod change;
mod names;
mod plan;
mod wishes;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loggia_api::store::{MemoryNodeStore, NodeStore, NodeWish, StoredNode};
use loggia_backend::Backend;
use loggia_backend::fetch_images::{Resolve, SystemResolver};
use loggia_backend::fleet::{Fleet, NodeState};
use loggia_backend::http::{BaseUrl, Client, Key, Limits, Upstream};
use loggia_backend::ollama::Ollama;
use loggia_backend::openai::OpenAi;
use loggia_backend::queue::Queue;
use loggia_server::{Node, NodeStatus, Reading, TracedServer, Traces, node_id};
use tokio::runtime::Handle;

pub(crate) use self::change::StoreChange;
use self::names::Names;
use self::plan::{Kind, Planned, Source};
pub(crate) use self::plan::{node_place, nodes_of};
use super::{Named, readings, traced};
use crate::config::Config;

/// The Ollama servers and OpenAI engines. Clones share them.
#[derive(Clone)]
pub(crate) struct Servers(Arc<Shared>);

struct Shared {
    runtime: Handle,
    resolver: Arc<dyn Resolve>,
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    /// Records the calls to nodes.
    traces: Option<Traces>,
    /// The connections to all nodes that are not an address of a DNS name.
    client: Client,
    servers: Vec<Server>,
    names: Names,
    /// The last wish of operators about each node.
    wishes: Vec<StoredNode>,
    store: Arc<dyn NodeStore>,
    /// Whether the first configuration was applied: from then on, the log names changes.
    has_begun: bool,
}

/// The settings that all servers share.
#[derive(Clone, Debug, PartialEq)]
struct Settings {
    limits: Limits,
    at_once: Option<usize>,
    places: usize,
    hedge_after: Option<Duration>,
    dns_refresh: Duration,
}

/// The servers with one name: a backend.
#[derive(Clone)]
struct Server {
    kind: Kind,
    name: String,
    fleet: Fleet,
    queue: Option<Arc<Queue>>,
    /// The nodes in the configuration.
    sources: Vec<Source>,
    /// The nodes that get requests.
    present: Vec<Spec>,
}

/// A node, and how it is reached.
#[derive(Clone, Debug, PartialEq)]
struct Spec {
    /// The URL of the node, and the address if the node is one address of a DNS name.
    place: String,
    base: BaseUrl,
    address: Option<IpAddr>,
    key: Option<Key>,
    limits: Limits,
}

/// A configuration that can be applied: nothing has changed yet.
pub(crate) struct NextServers {
    settings: Settings,
    servers: Vec<Server>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            limits: Limits {
                connect: config.connect_timeout.0,
                headers: config.headers_timeout.0,
                idle: config.idle_timeout.0,
            },
            at_once: config.at_once.map(|count| number(count.get())),
            places: number(config.queue.get()),
            hedge_after: config.hedge_after.as_ref().map(|after| after.0),
            dns_refresh: config.dns_refresh.0,
        }
    }
}

impl Servers {
    /// Builds the backends of a configuration. `traces` records the calls to them. Names are resolved
    /// later, by [`resolve`](Self::resolve).
    pub(crate) fn new(config: &Config, traces: Option<&Traces>, runtime: &Handle) -> Self {
        let settings = Settings::of(config);
        let servers = Self(Arc::new(Shared {
            runtime: runtime.clone(),
            resolver: Arc::new(SystemResolver),
            state: Mutex::new(State {
                client: Client::new(settings.limits),
                settings,
                traces: traces.cloned(),
                servers: Vec::new(),
                names: Names::default(),
                wishes: Vec::new(),
                store: Arc::new(MemoryNodeStore::default()),
                has_begun: false,
            }),
        }));
        servers.apply(servers.next(config));
        servers
    }

    /// Returns the backends of a configuration. Those that there are already go on.
    pub(crate) fn next(&self, config: &Config) -> NextServers {
        let settings = Settings::of(config);
        let state = self.0.state();
        let servers = Planned::of(config).into_iter().map(|planned| {
            let Planned {
                kind,
                name,
                sources,
            } = planned;
            let mut before = state.servers.iter();
            let before = before.find(|server| server.is(kind, &name));
            let (fleet, queue) = match before {
                Some(server) => (server.fleet.clone(), server.queue.clone()),
                None => (Fleet::new(name.as_str(), self.0.runtime.clone()), None),
            };
            // Its size is set when the nodes are known.
            let queue = settings.at_once.map(|at_once| {
                queue.unwrap_or_else(|| {
                    let fleet = Arc::new(fleet.clone());
                    let traces = state.traces.as_ref();
                    let on_waited = traces.map(|traces| traces.on_waited(&name));
                    let queue = Queue::new(fleet, at_once, settings.places);
                    Arc::new(queue.with_on_waited(on_waited))
                })
            });
            Server {
                kind,
                name,
                fleet,
                queue,
                sources,
                present: Vec::new(),
            }
        });
        let servers = servers.collect();
        NextServers { settings, servers }
    }

    /// Applies a configuration: adds the nodes that are new, and drains those that are gone.
    pub(crate) fn apply(&self, next: NextServers) {
        let mut state = self.0.state();
        if state.settings.limits != next.settings.limits {
            state.client = Client::new(next.settings.limits);
        }
        state.settings = next.settings;
        // The requests of a backend that is gone hold what they need.
        let before = std::mem::replace(&mut state.servers, next.servers);
        for server in &mut state.servers {
            let mut before = before.iter();
            // Names and wishes may have changed the nodes since the configuration was read.
            if let Some(before) = before.find(|other| other.is(server.kind, &server.name)) {
                server.present.clone_from(&before.present);
            }
        }
        state.sync();
    }

    /// Returns the backends, with their locations.
    pub(super) fn named(&self) -> Vec<Named> {
        let state = self.0.state();
        state.servers.iter().map(Server::named).collect()
    }

    /// Returns the nodes of a backend, or of all.
    pub(super) fn nodes_of(&self, backend: Option<&str>) -> Vec<Node> {
        let state = self.0.state();
        let servers = state.servers.iter();
        let servers = servers.filter(|server| backend.is_none_or(|name| name == server.name));
        servers.flat_map(|server| state.shown(server)).collect()
    }

    /// Returns the metrics of nodes, queues and names.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let state = self.0.state();
        let mut all = state.names.readings();
        for Server {
            name, fleet, queue, ..
        } in &state.servers
        {
            all.extend(readings::of_nodes(name, fleet));
            all.extend(
                queue
                    .iter()
                    .flat_map(|queue| readings::of_queue(name, queue)),
            );
        }
        all
    }
}

impl NextServers {
    /// Returns the backends, with their locations.
    pub(super) fn named(&self) -> Vec<Named> {
        self.servers.iter().map(Server::named).collect()
    }
}

impl Server {
    fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && self.name == *name
    }

    fn named(&self) -> Named {
        let sources = self.sources.iter().map(Source::to_string);
        let backend: Arc<dyn Backend> = match &self.queue {
            Some(queue) => Arc::clone(queue) as Arc<dyn Backend>,
            None => Arc::new(self.fleet.clone()),
        };
        let places: Vec<String> = sources.collect();
        (self.name.clone(), places.join(", "), backend)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds and drains nodes until each backend has those that it should have.
    fn sync(&mut self) {
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            let wanted = self.wanted(server);
            let server = &mut self.servers[at];
            for wish in &self.wishes {
                if wish.wish == NodeWish::Removed
                    && wish.backend == server.name
                    && server.fleet.remove(&server.kind.place(&wish.place))
                {
                    let (backend, node) = (&*server.name, &*wish.place);
                    tracing::info!(backend, node, "a node was removed, and its requests ended");
                }
            }
            for gone in &server.present {
                if !wanted.contains(gone) && server.fleet.drain(&gone.place) {
                    let (backend, node) = (&*server.name, &*gone.place);
                    tracing::info!(backend, node, "a node gets no more requests");
                }
            }
            if server.sources.iter().any(|source| source.by_dns) {
                server.fleet.watch_nodes();
            }
            for spec in &wanted {
                if !server.present.contains(spec) {
                    let node = spec.backend(server.kind, &server.name, &self.client);
                    let called = spec.traced(server.kind, &server.name);
                    let node = traced(self.traces.as_ref(), node, &called);
                    server.fleet.add(spec.place.as_str(), node);
                    if self.has_begun {
                        let (backend, node) = (&*server.name, &*spec.place);
                        tracing::info!(backend, node, "a node gets requests");
                    }
                }
            }
            server.present = wanted;
            server.fleet.hedge_after(self.settings.hedge_after);
            if let (Some(queue), Some(at_once)) = (&server.queue, self.settings.at_once) {
                let at_once = at_once.saturating_mul(server.present.len().max(1));
                queue.resize(at_once, self.settings.places);
            }
        }
        self.has_begun = true;
    }

    /// Returns the nodes of a backend as operators see them: those that get requests or end theirs,
    /// and those of the configuration that were drained.
    fn shown(&self, server: &Server) -> Vec<Node> {
        let configured = self.configured(server);
        let is_configured = |place: &str| configured.iter().any(|spec| spec.place == *place);
        let node = |place: &str| Node {
            id: node_id(&server.name, place),
            backend: server.name.clone(),
            name: None,
            place: place.to_owned(),
            is_configured: is_configured(place),
            state: NodeStatus::Drained,
            is_up: None,
            in_flight: None,
        };
        let states = server.fleet.nodes();
        let used = states.iter().map(|state: &NodeState| Node {
            name: Some(state.name.to_string()),
            state: if state.is_draining {
                NodeStatus::Draining
            } else {
                NodeStatus::Active
            },
            is_up: state.is_used.filter(|_| !state.is_draining),
            in_flight: Some(state.in_flight),
            ..node(&state.place)
        });
        let is_used = |place: &str| states.iter().any(|state| *state.place == *place);
        let drained = configured.iter().filter(|spec| !is_used(&spec.place));
        used.chain(drained.map(|spec| node(&spec.place))).collect()
    }
}

impl Spec {
    /// Returns the backend that is this node alone.
    fn backend(&self, kind: Kind, name: &str, client: &Client) -> Arc<dyn Backend> {
        let client = match self.address {
            Some(address) => Client::to_address(address, self.limits),
            None => client.clone(),
        };
        match kind {
            Kind::Ollama => {
                let upstream = Upstream::new(client, self.base.clone(), None);
                Arc::new(Ollama::new(name, upstream))
            }
            Kind::OpenAi => Arc::new(OpenAi::new(
                name,
                client,
                self.base.clone(),
                self.key.clone(),
            )),
        }
    }

    /// Returns what the spans of calls to this node say about it.
    fn traced(&self, kind: Kind, backend: &str) -> TracedServer {
        let url = url::Url::parse(&self.base.to_string()).ok();
        let port = url.and_then(|url| url.port_or_known_default());
        TracedServer {
            provider: kind.provider(),
            backend: backend.to_owned(),
            address: port.map(|port| (self.base.host_name().to_owned(), port)),
            peer: self.address,
        }
    }
}
