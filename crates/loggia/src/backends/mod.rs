//! From a configuration to what stands behind the API: every backend, in order of precedence,
//! behind one roster.
//!
//! Nothing here is asked or loaded: putting together costs nothing, so `loggia check` does it as
//! `loggia serve` does.

#[cfg(feature = "embedded")]
mod embedded;
mod local;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use loggia_backend::Backend;
use loggia_backend::http::{Client, Limits, Upstream};
use loggia_backend::ollama::Ollama;
use loggia_backend::openai::OpenAi;
use loggia_backend::roster::{Roster, RosterError};
use tokio::runtime::Handle;

use crate::config::{Alias, Config};
use crate::models;
#[cfg(feature = "embedded")]
use embedded::{Embedded, check_adapters, check_per_model};
#[cfg(feature = "embedded")]
pub(crate) use embedded::{run as run_engine, threads};
use local::Local;
pub(crate) use local::{Draft, LocalError, about_model};

/// Everything that a configuration names.
pub(crate) struct Backends {
    pub(crate) roster: Arc<Roster>,
    /// Where each backend is, by its name in the roster.
    pub(crate) places: Vec<(String, String)>,
    /// Models for the embedded engine that are not to be had, as they were asked for, and why.
    pub(crate) missing: Vec<(String, LocalError)>,
    /// The models of the embedded engine, by their names.
    pub(crate) embedded: Vec<String>,
    /// Which models of the embedded engine have a draft, and which.
    pub(crate) drafts: Vec<(String, Draft)>,
    /// Loads the models of the embedded engine. Until it is done they are listed, and a chat waits
    /// for them.
    pub(crate) load: BoxFuture<'static, anyhow::Result<()>>,
}

/// Why what a configuration names cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// What is given to one model, and why it cannot be.
    #[error("{0}")]
    PerModel(String),
    /// Which model has an adapter that does not go with it, and why not.
    #[error("{0}")]
    Adapter(String),
    /// Which projector is not had, or does not go with its model, and why not.
    #[error("{0}")]
    Projector(String),
}

/// A backend's name, where it is, and how it is reached.
type Named = (String, String, Arc<dyn Backend>);

impl Backends {
    /// The embedded engine first, then each Ollama, then each engine that speaks OpenAI: a bare
    /// model name means the first that has it. What outlives requests runs on `runtime`.
    pub(crate) fn of(config: &Config, runtime: &Handle) -> Result<Self, SetupError> {
        let (mut here, missing) = local::find_all(config);
        local::give_drafts(&mut here, &missing, config).map_err(SetupError::PerModel)?;
        let aliases = aliases(config, &here);
        local::check_projectors(&here, &missing, config).map_err(SetupError::Projector)?;
        check_adapters(&here, config).map_err(SetupError::Adapter)?;
        check_per_model(&here, &aliases, config).map_err(SetupError::PerModel)?;
        let (engine, load) = engine(&here, config, runtime);
        let all: Vec<Named> = engine
            .into_iter()
            .chain(ollama(config))
            .chain(openai(config))
            .collect();
        let places = all
            .iter()
            .map(|(name, place, _)| (name.clone(), place.clone()))
            .collect();
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
            missing,
            embedded,
            drafts,
            load,
        })
    }
}

/// Those of the configuration, and for a model of this program the short name without its size:
/// `smollm2` for `smollm2:135m`.
fn aliases(config: &Config, here: &[Local]) -> Vec<Alias> {
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

/// The embedded engine, where it has a model to run.
#[cfg(feature = "embedded")]
fn engine(
    models: &[Local],
    config: &Config,
    runtime: &Handle,
) -> (Option<Named>, BoxFuture<'static, anyhow::Result<()>>) {
    if models.is_empty() {
        return (None, Box::pin(std::future::ready(Ok(()))));
    }
    let engine = Arc::new(Embedded::new(models, config, runtime));
    let named: Named = (
        "embedded".to_owned(),
        "this machine".to_owned(),
        engine.clone(),
    );
    (Some(named), Box::pin(async move { engine.load().await }))
}

/// None computes in this build.
#[cfg(not(feature = "embedded"))]
pub(crate) fn threads(_: &Config) -> i32 {
    0
}

/// There is no embedded model that anything could be given to.
#[cfg(not(feature = "embedded"))]
fn check_per_model(_: &[Local], _: &[Alias], _: &Config) -> Result<(), String> {
    Ok(())
}

/// There is no embedded model that an adapter could be laid over.
#[cfg(not(feature = "embedded"))]
fn check_adapters(_: &[Local], _: &Config) -> Result<(), String> {
    Ok(())
}

/// There is none in this build, and `local` finds no model for it.
#[cfg(not(feature = "embedded"))]
fn engine(
    _: &[Local],
    _: &Config,
    _: &Handle,
) -> (Option<Named>, BoxFuture<'static, anyhow::Result<()>>) {
    (None, Box::pin(std::future::ready(Ok(()))))
}

fn ollama(config: &Config) -> impl Iterator<Item = Named> {
    let client = client(config);
    config.ollama.iter().enumerate().map(move |(at, url)| {
        let name = if at == 0 {
            "ollama".to_owned()
        } else {
            format!("ollama-{}", at + 1)
        };
        let upstream = Upstream::new(client.clone(), url.base.clone(), None);
        let backend: Arc<dyn Backend> = Arc::new(Ollama::new(name.as_str(), upstream));
        (name, url.to_string(), backend)
    })
}

fn openai(config: &Config) -> impl Iterator<Item = Named> {
    let client = client(config);
    config.openai.iter().map(move |engine| {
        let key = engine.key.as_ref().map(|secret| secret.0.clone());
        let backend = OpenAi::new(
            engine.name.as_str(),
            client.clone(),
            engine.url.base.clone(),
            key,
        );
        let backend: Arc<dyn Backend> = Arc::new(backend);
        (engine.name.clone(), engine.url.to_string(), backend)
    })
}

fn client(config: &Config) -> Client {
    Client::new(Limits {
        connect: config.connect_timeout.0,
        headers: config.headers_timeout.0,
        idle: config.idle_timeout.0,
    })
}
