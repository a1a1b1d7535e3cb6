//! Builds the configuration from its sources.

use std::collections::HashSet;
use std::path::PathBuf;

use loggia_api::Strictness;

use super::environment::{Environment, environment, variables};
use super::error::ConfigError;
use super::flags::Flags;
use super::keys;
use super::listen::Listen;
use super::names::check_variables;
use super::origin::{Origin, Set};
use super::settings::{Config, Settings, find};
use super::sources::Sources;
use super::value::{Engine, ModelName, Secret, Url, ValueError, strictness};

impl Config {
    /// Builds the configuration from flags, environment, and the file that either of them selects.
    pub(crate) fn load(flags: &Flags, env: Environment<'_>) -> Result<Self, ConfigError> {
        let file = flags.config.clone();
        let file = file.or_else(|| env("LOGGIA_CONFIG").map(PathBuf::from));
        let file = file.map_or_else(|| Ok(Settings::default()), |path| Settings::of_file(&path))?;
        let found_out = Settings {
            data_dir: default_data_dir(env),
            ..Settings::default()
        };
        let sources = Sources(vec![
            (Origin::Flag, flags.settings().checked("a flag")?),
            (Origin::Environment, Settings::of_environment(env)?),
            (Origin::File, file),
            (Origin::Default, found_out),
        ]);
        let mut config = Self::resolve(&sources)?;
        config.listen = with_halves(config.listen, flags);
        check_nodes(&config)?;
        give_keys(&mut config.openai.value, env)?;
        keys::give_digests(&mut config.key.value, env)?;
        Ok(config)
    }

    /// Builds the configuration from this process's environment, and checks that every `LOGGIA_…`
    /// variable is known.
    pub(crate) fn of_this_process(flags: &Flags) -> Result<Self, ConfigError> {
        check_variables()?;
        let config = Self::load(flags, &environment)?;
        keys::of_nobody(&config.key, variables().map(|(name, _)| name))?;
        Ok(config)
    }

    /// Returns how many requests of batches are made at once: `batch_parallel`, else as many as a model
    /// answers at once.
    pub(crate) fn lines_at_once(&self) -> usize {
        self.batch_parallel.unwrap_or(*self.parallel).get() as usize
    }

    /// The settings that differ from those with which the program was started, and that take effect
    /// after a restart.
    pub(crate) fn pending_since(&self, started: &Self) -> Vec<&'static str> {
        let mut pending = self.changed_since(started);
        pending.retain(|setting| !find(setting).is_some_and(|setting| setting.is_live));
        pending.extend(self.per_model.of_engine_changed_since(&started.per_model));
        pending
    }

    /// The model folder, for commands that need nothing else.
    pub(crate) fn data_dir_of_this_process(flags: &Flags) -> Result<PathBuf, ConfigError> {
        check_variables()?;
        Ok(Self::load(flags, &environment)?.data_dir.value)
    }

    /// Returns how to handle fields that cannot be honoured.
    pub(crate) fn strictness(&self) -> Strictness {
        strictness(Some(self.strict.0), Some(self.lenient.0)).unwrap_or_default()
    }

    /// Remarks on settings that are accepted, but likely mistakes.
    pub(crate) fn notices(&self) -> Vec<String> {
        let of_engine = |engine: &Engine| (engine.name.clone(), engine.url.clone());
        let ollama = self
            .ollama
            .iter()
            .map(|server| ("ollama".to_owned(), server.url.clone()));
        let urls = ollama.chain(self.openai.iter().map(of_engine));
        let dropped = urls.filter_map(|(name, url)| Some((name, url.dropped.clone()?, url)));
        let notice = |(name, dropped, url): (String, String, Url)| {
            format!("{name}: the URL ends with the path of a route, {dropped}; using {url}")
        };
        let keys = of_no_engine(&self.openai)
            .map(|name| format!("{name} is set, but no engine with that name is configured"));
        let is_on_disk = self.cache_disk.is_some_and(|size| size.length() > 0);
        let unencrypted = (self.store_encrypted.0 && is_on_disk).then(|| {
            "store_encrypted does not encrypt cached prompts: cache_disk writes the text of conversations as it is".to_owned()
        });
        let has_folder = self.files_url.is_some() && self.files_dir.is_some();
        let folder =
            has_folder.then(|| "files_dir has no effect: files_url is set, too".to_owned());
        let others = unencrypted.into_iter().chain(folder);
        dropped.map(notice).chain(keys).chain(others).collect()
    }

    /// Configures this model for the embedded engine, and no other.
    pub(crate) fn with_model(self, name: &str) -> Self {
        let models = vec![ModelName(name.to_owned())];
        Self {
            models: Set {
                value: models,
                from: Origin::Flag,
            },
            ..self
        }
    }

    /// Whether no backend and no model is configured, so that the default model is used.
    pub(crate) fn names_no_backend(&self) -> bool {
        self.models.is_empty()
            && self.lora.is_empty()
            && self.ollama.is_empty()
            && self.openai.is_empty()
    }
}

/// Applies `--host` and `--port`.
fn with_halves(listen: Set<Listen>, flags: &Flags) -> Set<Listen> {
    let (host, port) = (flags.host.clone(), flags.port);
    if host.is_none() && port.is_none() {
        return listen;
    }
    let value = Listen {
        host: host.map_or(listen.value.host, |host| host.0),
        port: port.map_or(listen.value.port, |port| port.0),
    };
    Set {
        value,
        from: Origin::Flag,
    }
}

/// Checks that no server is a node of the same backend twice.
fn check_nodes(config: &Config) -> Result<(), ConfigError> {
    let ollama = config
        .ollama
        .iter()
        .filter_map(|server| Some((server.name.as_ref()?, &server.url)));
    let openai = config
        .openai
        .iter()
        .map(|engine| (&engine.name, &engine.url));
    let mut seen = HashSet::new();
    for (name, url) in ollama.chain(openai) {
        if !seen.insert((name, url.to_string())) {
            return Err(ConfigError::SameNode {
                name: name.clone(),
                url: url.to_string(),
            });
        }
    }
    Ok(())
}

/// Sets the API keys of engines from the environment.
fn give_keys(engines: &mut [Engine], env: Environment<'_>) -> Result<(), ConfigError> {
    for engine in engines {
        let name = engine.key_variable();
        if let Some(key) = env(&name) {
            let key: Secret = key
                .parse()
                .map_err(|why: ValueError| ConfigError::Variable {
                    name,
                    why: why.to_string(),
                })?;
            engine.key = Some(key);
        }
    }
    Ok(())
}

/// Variables with keys of engines that are not configured: harmless, but likely a typing mistake.
fn of_no_engine(engines: &[Engine]) -> impl Iterator<Item = String> {
    let is_of_none = |name: &String| {
        let is_key = name.starts_with("LOGGIA_OPENAI_") && name.ends_with("_KEY");
        is_key && !engines.iter().any(|engine| engine.key_variable() == *name)
    };
    variables().map(|(name, _)| name).filter(is_of_none)
}

fn default_data_dir(env: Environment<'_>) -> Option<PathBuf> {
    let home = || env("HOME").map(PathBuf::from);
    let base = if cfg!(windows) {
        env("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        // The XDG specification requires that relative paths are ignored.
        let named = env("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        named.or_else(|| home().map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("loggia"))
}
