//! Builds the backends of a configuration, behind one roster.
//!
//! This neither connects nor loads anything, so `loggia check` does the same as `loggia serve`.

#[cfg(feature = "embedded")]
mod embedded;
mod model_files;
mod readings;
mod whisper;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use loggia_backend::Backend;
use loggia_backend::fleet::Fleet;
use loggia_backend::http::{Client, Limits, Upstream};
use loggia_backend::ollama::Ollama;
use loggia_backend::openai::OpenAi;
use loggia_backend::queue::Queue;
use loggia_backend::roster::{Roster, RosterError};
use loggia_server::{Reading, ShownBackend};
use tokio::runtime::Handle;

use crate::config::{Alias, Config, Count};
use crate::models;
#[cfg(feature = "embedded")]
use embedded::{Embedded, check_adapters, check_per_model, report_caches};
#[cfg(feature = "embedded")]
pub(crate) use embedded::{run as run_engine, threads};
use model_files::EmbeddedModel;
pub(crate) use model_files::{Draft, ModelError, about_model};

/// The backends of a configuration.
pub(crate) struct Backends {
    pub(crate) roster: Arc<Roster>,
    /// The location of each backend, by its name in the roster.
    pub(crate) places: Vec<(String, String)>,
    /// Each backend alone, for the console.
    pub(crate) shown: Vec<ShownBackend>,
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
    /// The lines of `loggia check` about contexts and the prompt cache.
    pub(crate) caches: String,
    /// Read the metrics of embedded models, nodes and queues.
    pub(crate) readings: Vec<Readings>,
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
    /// engines. A plain model name means the first that has the model. Tasks that outlive requests
    /// run on `runtime`.
    pub(crate) fn of(config: &Config, runtime: &Handle) -> Result<Self, SetupError> {
        let (mut here, missing) = model_files::find_all(config);
        model_files::give_drafts(&mut here, &missing, config).map_err(SetupError::PerModel)?;
        let aliases = aliases(config, &here);
        model_files::check_projectors(&here, &missing, config).map_err(SetupError::Projector)?;
        check_adapters(&here, config).map_err(SetupError::Adapter)?;
        check_per_model(&here, &aliases, config).map_err(SetupError::PerModel)?;
        let engine = engine(&here, config, runtime);
        let mut readings: Vec<Readings> = engine.readings.into_iter().collect();
        let mut all: Vec<Named> = engine.named.into_iter().collect();
        for servers in [ollama(config), openai(config)] {
            all.extend(servers.backends(config, runtime, &mut readings));
        }
        let places = all
            .iter()
            .map(|(name, place, _)| (name.clone(), place.clone()))
            .collect();
        let shown = all.iter().map(shown).collect();
        let members = all
            .into_iter()
            .map(|(name, _, backend)| (name.into(), backend));
        let roster = Arc::new(Roster::new(members, aliases)?);
        let embedded = here.iter().map(|model| model.name.clone()).collect();
        let drafts = here
            .into_iter()
            .filter_map(|model| Some((model.name, model.draft?)))
            .collect();
        Ok(Backends {
            roster,
            places,
            shown,
            missing,
            embedded,
            drafts,
            load: engine.load,
            unload: engine.unload,
            caches: engine.caches,
            readings,
        })
    }
}

/// A backend for the console.
fn shown((name, place, backend): &Named) -> ShownBackend {
    ShownBackend {
        name: name.clone(),
        places: place.split(", ").map(str::to_owned).collect(),
        backend: Arc::clone(backend),
    }
}

/// The configured aliases, and the short name without the size for each embedded model: `smollm2`
/// for `smollm2:135m`.
fn aliases(config: &Config, here: &[EmbeddedModel]) -> Vec<Alias> {
    let mut aliases = config.aliases.to_vec();
    for model in here {
        if let Some(family) = models::family(&model.name)
            && !aliases.iter().any(|alias| alias.from() == family)
            && let Ok(alias) = Alias::new(family, &model.name)
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
    caches: String,
    readings: Option<Readings>,
}

impl Engine {
    /// An engine without models.
    fn none() -> Self {
        Self {
            named: None,
            load: Box::pin(std::future::ready(Ok(()))),
            unload: Box::pin(std::future::ready(())),
            caches: String::new(),
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
    Engine {
        named: Some(named),
        load: Box::pin(async move { loading.load().await }),
        caches: report_caches(&engine, config),
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

/// A server, as a node of a backend: its location and the backend at it alone.
type NodeAt = (String, Arc<dyn Backend>);

/// The servers by the name of their backend, in the order of the first of each.
#[derive(Default)]
struct ByName(Vec<(String, Vec<NodeAt>)>);

impl ByName {
    fn add(&mut self, name: String, node: NodeAt) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, nodes)) => nodes.push(node),
            None => self.0.push((name, vec![node])),
        }
    }

    /// The backends: a single server as it is, several as a fleet. With `at_once`, a queue is before
    /// each.
    fn backends(
        self,
        config: &Config,
        runtime: &Handle,
        readings: &mut Vec<Readings>,
    ) -> Vec<Named> {
        let mut all = Vec::new();
        for (name, nodes) in self.0 {
            let places: Vec<String> = nodes.iter().map(|(place, _)| place.clone()).collect();
            let backend: Arc<dyn Backend> = match only(nodes) {
                Ok(backend) => backend,
                Err(nodes) => {
                    let fleet = Arc::new(fleet(&name, nodes, config, runtime));
                    readings.push(readings::of_nodes(&name, &fleet));
                    fleet
                }
            };
            let number = |count: Count| usize::try_from(count.get()).unwrap_or(usize::MAX);
            let backend: Arc<dyn Backend> = match *config.at_once {
                Some(at_once) => {
                    let at_once = number(at_once).saturating_mul(places.len());
                    let queue = Arc::new(Queue::new(backend, at_once, number(*config.queue)));
                    readings.push(readings::of_queue(&name, &queue));
                    queue
                }
                None => backend,
            };
            all.push((name, places.join(", "), backend));
        }
        all
    }
}

/// Returns the backend of the only node, or several nodes.
fn only(mut nodes: Vec<NodeAt>) -> Result<Arc<dyn Backend>, Vec<NodeAt>> {
    match nodes.pop() {
        Some((_, only)) if nodes.is_empty() => Ok(only),
        last => {
            nodes.extend(last);
            Err(nodes)
        }
    }
}

fn fleet(name: &str, nodes: Vec<NodeAt>, config: &Config, runtime: &Handle) -> Fleet {
    // Numbers, because clients see the names of nodes.
    let number = |(at, (_, node)): (usize, NodeAt)| (Arc::from((at + 1).to_string()), node);
    let nodes = nodes.into_iter().enumerate().map(number);
    let hedge_after = config.hedge_after.as_ref().map(|after| after.0);
    Fleet::new(name, nodes, runtime.clone()).with_hedging(hedge_after)
}

fn ollama(config: &Config) -> ByName {
    let client = client(config);
    let mut all = ByName::default();
    for (at, server) in config.ollama.iter().enumerate() {
        let name = match &server.name {
            Some(name) => name.clone(),
            None if at == 0 => "ollama".to_owned(),
            None => format!("ollama-{}", at + 1),
        };
        let upstream = Upstream::new(client.clone(), server.url.base.clone(), None);
        let backend = Arc::new(Ollama::new(name.as_str(), upstream));
        all.add(name, (server.url.to_string(), backend));
    }
    all
}

fn openai(config: &Config) -> ByName {
    let client = client(config);
    let mut all = ByName::default();
    for engine in config.openai.iter() {
        let key = engine.key.as_ref().map(|secret| secret.0.clone());
        let backend = OpenAi::new(
            engine.name.as_str(),
            client.clone(),
            engine.url.base.clone(),
            key,
        );
        all.add(
            engine.name.clone(),
            (engine.url.to_string(), Arc::new(backend)),
        );
    }
    all
}

fn client(config: &Config) -> Client {
    Client::new(Limits {
        connect: config.connect_timeout.0,
        headers: config.headers_timeout.0,
        idle: config.idle_timeout.0,
    })
}
