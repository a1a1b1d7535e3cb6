//! Builds the backends of a configuration, behind one roster.
//!
//! This neither connects nor loads anything, so `loggia check` does the same as `loggia serve`.

#[cfg(feature = "embedded")]
mod embedded;
mod model_files;
mod readings;
mod servers;
mod whisper;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use loggia_backend::Backend;
use loggia_backend::roster::{Roster, RosterError};
use loggia_server::{Node, NodeStatus, Reading, ShownBackend, TracedServer, Traces};
use tokio::runtime::Handle;

use crate::config::{Alias, Config};
use crate::models;
#[cfg(feature = "embedded")]
use embedded::{Embedded, check_adapters, check_per_model, report_caches};
#[cfg(feature = "embedded")]
pub(crate) use embedded::{run as run_engine, threads};
use model_files::EmbeddedModel;
pub(crate) use model_files::{Draft, ModelError, about_model};
pub(crate) use servers::{Servers, StoreChange, node_place, nodes_of};

/// The backends of a configuration.
pub(crate) struct Backends {
    pub(crate) roster: Arc<Roster>,
    /// What the roster is made of, so that it can be made again.
    pub(crate) parts: Parts,
    /// Configured embedded models that are missing, and why.
    pub(crate) missing: Vec<(String, ModelError)>,
    /// The names of the embedded models.
    pub(crate) embedded: Vec<String>,
    /// The draft models, by the names of their models.
    pub(crate) drafts: Vec<(String, Draft)>,
    /// Loads the embedded models. Until this has finished, they are listed, and requests wait for
    /// them.
    pub(crate) load: BoxFuture<'static, anyhow::Result<()>>,
    /// Unloads the embedded models at the end of the program, so that they can write their caches
    /// to disk.
    pub(crate) unload: BoxFuture<'static, ()>,
    /// Returns the lines of `loggia check` about contexts and the prompt cache. It reads the heads of
    /// all models.
    pub(crate) caches: Report,
}

/// Returns lines of `loggia check`.
type Report = Box<dyn Fn(&Config) -> String + Send + Sync>;

/// The parts of a roster. Clones share them.
#[derive(Clone)]
pub(crate) struct Parts {
    engine: Option<Named>,
    /// Reads the metrics of the embedded models.
    engine_readings: Option<Readings>,
    /// The embedded models.
    models: Arc<[EmbeddedModel]>,
    pub(crate) servers: Servers,
}

/// Reads metrics.
pub(crate) type Readings = Arc<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// Why the backends of a configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A wrong entry of `per_model`.
    #[error("{0}")]
    PerModel(String),
    /// A model and an adapter that do not fit.
    #[error("{0}")]
    Adapter(String),
    /// A projector that is missing or does not fit its model.
    #[error("{0}")]
    Projector(String),
}

/// A backend, with its name and location.
type Named = (String, String, Arc<dyn Backend>);

impl Backends {
    /// The backends in order of precedence: the embedded engine, then Ollama servers, then OpenAI
    /// engines. A plain model name means the first that has the model. `traces` records the calls to
    /// them. Tasks that outlive requests run on `runtime`.
    pub(crate) fn of(
        config: &Config,
        traces: Option<&Traces>,
        runtime: &Handle,
    ) -> Result<Self, SetupError> {
        let (mut here, missing) = model_files::find_all(config);
        model_files::give_drafts(&mut here, &missing, config).map_err(SetupError::PerModel)?;
        let aliases = aliases(config, &here);
        model_files::check_projectors(&here, &missing, config).map_err(SetupError::Projector)?;
        check_adapters(&here, config).map_err(SetupError::Adapter)?;
        check_per_model(&here, &aliases, config).map_err(SetupError::PerModel)?;
        let engine = engine(&here, config, runtime);
        let traced_engine = engine.named.map(|(name, place, backend)| {
            let server = TracedServer {
                provider: "loggia",
                backend: name.clone(),
                address: None,
                peer: None,
            };
            (name, place, traced(traces, backend, &server))
        });
        let parts = Parts {
            engine: traced_engine,
            engine_readings: engine.readings,
            models: here.into(),
            servers: Servers::new(config, traces, runtime),
        };
        let roster = parts.roster(config, parts.servers.named())?;
        let models = parts.models.iter().cloned();
        let drafts = models
            .filter_map(|model| Some((model.name, model.draft?)))
            .collect();
        let names = parts.models.iter().map(|model| model.name.clone());
        let embedded = names.collect();
        Ok(Backends {
            roster,
            parts,
            missing,
            embedded,
            drafts,
            load: engine.load,
            unload: engine.unload,
            caches: engine.caches,
        })
    }
}

/// Returns a backend whose calls have spans, if they are recorded.
fn traced(
    traces: Option<&Traces>,
    backend: Arc<dyn Backend>,
    server: &TracedServer,
) -> Arc<dyn Backend> {
    match traces {
        Some(traces) => traces.wrap(backend, server),
        None => backend,
    }
}

impl Parts {
    /// Applies another configuration to the servers and the aliases. The embedded models stay; their
    /// entries of `per_model` are checked.
    ///
    /// # Errors
    /// Fails if it has a mistake. Then nothing has changed.
    pub(crate) fn reload(&self, config: &Config) -> Result<Arc<Roster>, SetupError> {
        let aliases = aliases(config, &self.models);
        check_per_model(&self.models, &aliases, config).map_err(SetupError::PerModel)?;
        let next = self.servers.next(config);
        let roster = self.roster(config, next.named())?;
        self.servers.apply(next);
        Ok(roster)
    }

    /// Returns a roster of the engine and these servers.
    fn roster(&self, config: &Config, servers: Vec<Named>) -> Result<Arc<Roster>, SetupError> {
        let all = self.engine.iter().cloned().chain(servers);
        let members = all.map(|(name, _, backend)| (name.into(), backend));
        let aliases = aliases(config, &self.models);
        Ok(Arc::new(Roster::new(members, aliases)?))
    }

    fn all(&self) -> Vec<Named> {
        let servers = self.servers.named();
        self.engine.iter().cloned().chain(servers).collect()
    }

    /// Returns the location of each backend, by its name in the roster.
    pub(crate) fn places(&self) -> Vec<(String, String)> {
        let all = self.all().into_iter();
        all.map(|(name, place, _)| (name, place)).collect()
    }

    /// Returns each backend alone, for the console.
    pub(crate) fn shown(&self) -> Vec<ShownBackend> {
        let all = self.all().into_iter();
        let shown = all.map(|(name, place, backend)| {
            let mut nodes = self.servers.nodes_of(Some(&name));
            if nodes.is_empty() {
                nodes.push(only_node(&name, place));
            }
            ShownBackend {
                name,
                nodes,
                backend,
            }
        });
        shown.collect()
    }

    /// Returns the metrics of embedded models, nodes, queues and DNS names.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let engine = self.engine_readings.iter().flat_map(|read| read());
        engine.chain(self.servers.readings()).collect()
    }
}

/// The node of a backend that has no others: the embedded engine, or a name without addresses.
fn only_node(backend: &str, place: String) -> Node {
    Node {
        id: loggia_server::node_id(backend, &place),
        backend: backend.to_owned(),
        name: Some("1".to_owned()),
        place,
        is_configured: true,
        state: NodeStatus::Active,
        is_up: None,
        in_flight: None,
    }
}

/// The configured aliases, and the short name without the size for each embedded model: `smollm2`
/// for `smollm2:135m`.
fn aliases(config: &Config, embedded: &[EmbeddedModel]) -> Vec<Alias> {
    let mut aliases = config.aliases.to_vec();
    for EmbeddedModel { name, .. } in embedded {
        if let Some(family) = models::family(name)
            && !aliases.iter().any(|alias| alias.from() == family)
            && let Ok(alias) = Alias::new(family, name)
        {
            aliases.push(alias);
        }
    }
    aliases
}

/// The embedded engine, and how it is loaded and unloaded.
struct Engine {
    named: Option<Named>,
    load: BoxFuture<'static, anyhow::Result<()>>,
    unload: BoxFuture<'static, ()>,
    caches: Report,
    readings: Option<Readings>,
}

impl Engine {
    /// An engine without models.
    fn none() -> Self {
        Self {
            named: None,
            load: Box::pin(std::future::ready(Ok(()))),
            unload: Box::pin(std::future::ready(())),
            caches: Box::new(|_| String::new()),
            readings: None,
        }
    }
}

/// The embedded engine, if it has models.
#[cfg(feature = "embedded")]
fn engine(models: &[EmbeddedModel], config: &Config, runtime: &Handle) -> Engine {
    if models.is_empty() {
        return Engine::none();
    }
    let engine = Arc::new(Embedded::new(models, config, runtime));
    let named: Named = (
        "embedded".to_owned(),
        "this machine".to_owned(),
        engine.clone(),
    );
    let loading = Arc::clone(&engine);
    let read = Arc::clone(&engine);
    let reported = Arc::clone(&engine);
    Engine {
        named: Some(named),
        load: Box::pin(async move { loading.load().await }),
        caches: Box::new(move |config| report_caches(&reported, config)),
        readings: Some(Arc::new(move || read.readings())),
        unload: Box::pin(async move { engine.unload().await }),
    }
}

/// For builds without the embedded engine.
#[cfg(not(feature = "embedded"))]
pub(crate) fn threads(_: &Config) -> i32 {
    0
}

/// For builds without the embedded engine: there are no embedded models to check.
#[cfg(not(feature = "embedded"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the engine")]
fn check_per_model(_: &[EmbeddedModel], _: &[Alias], _: &Config) -> Result<(), String> {
    Ok(())
}

/// For builds without the embedded engine: there are no embedded models to check.
#[cfg(not(feature = "embedded"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the engine")]
fn check_adapters(_: &[EmbeddedModel], _: &Config) -> Result<(), String> {
    Ok(())
}

/// For builds without the embedded engine: `model_files` finds no models for it.
#[cfg(not(feature = "embedded"))]
fn engine(_: &[EmbeddedModel], _: &Config, _: &Handle) -> Engine {
    Engine::none()
}
