//! What the program is told: flags, then the environment, then one file, then defaults; the first
//! that speaks of a setting decides it.
//!
//! Reading order: [`Config`] (every setting and its default), `layer` (one source's wishes),
//! `value` (what a setting can be), `show` (printing it, for `loggia check`). Nothing here opens a
//! connection or a model.

mod bounds;
mod keep_alive;
mod keys;
mod layer;
mod listen;
mod lora;
mod mistake;
mod mmproj;
mod settings;
mod show;
mod tokens;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use loggia_api::{Ceilings, Strictness};
use loggia_backend::http::Limits;
use loggia_backend::media;
pub(crate) use loggia_backend::roster::Alias;

use crate::cli::{Flags, StoreArgs};
use bounds::{CeilingsTable, ImagesTable};
pub(crate) use keep_alive::KeepAlive;
pub(crate) use keys::{ApiKey, keys};
pub(crate) use layer::ConfigError;
use layer::Layer;
pub(crate) use listen::{Host, Listen};
pub(crate) use lora::Lora;
pub(crate) use mmproj::Mmproj;
pub(crate) use show::Shown;
pub(crate) use tokens::Tokens;
use value::Span;
pub(crate) use value::{
    Engine, ModelName, PerModel, SamplingProfile, Secret, Url, count, layers, port,
};

/// Every setting, decided.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: Set<Listen>,
    pub(crate) data_dir: Set<PathBuf>,
    pub(crate) strictness: Set<Strictness>,
    pub(crate) sampling_profile: Set<SamplingProfile>,
    /// The models of the embedded engine.
    pub(crate) models: Set<Vec<ModelName>>,
    /// Models of the embedded engine with an adapter laid over them.
    pub(crate) lora: Set<Vec<Lora>>,
    /// What models of the embedded engine see or hear with, where it is not to be what lies beside
    /// them.
    pub(crate) mmproj: Set<Vec<Mmproj>>,
    pub(crate) context: Set<Option<NonZeroU32>>,
    pub(crate) parallel: Set<NonZeroU32>,
    pub(crate) threads: Set<Option<NonZeroU32>>,
    /// `None`: all of them, where there is a GPU.
    pub(crate) gpu_layers: Set<Option<u32>>,
    /// What all loaded models may have together. `None`: what is available when the program starts.
    pub(crate) memory: Set<Option<ByteSize>>,
    pub(crate) keep_alive: Set<KeepAlive>,
    pub(crate) ollama: Set<Vec<Url>>,
    /// Engines that speak OpenAI, in order: an earlier one's model names win. Their keys are here
    /// already.
    pub(crate) openai: Set<Vec<Engine>>,
    pub(crate) aliases: Set<Vec<Alias>>,
    /// Those that the API asks for, their digests here already. None: it is open.
    pub(crate) key: Set<Vec<ApiKey>>,
    /// `None`: the pages of this machine.
    pub(crate) cors_origins: Set<Option<Vec<String>>>,
    pub(crate) body_limit: Set<ByteSize>,
    /// `None`: one for every two cores.
    pub(crate) workers: Set<Option<NonZeroU32>>,
    pub(crate) max_connections: Set<NonZeroU32>,
    pub(crate) head_timeout: Set<Duration>,
    pub(crate) body_timeout: Set<Duration>,
    pub(crate) connect_timeout: Set<Duration>,
    pub(crate) headers_timeout: Set<Duration>,
    pub(crate) idle_timeout: Set<Duration>,
    pub(crate) stall_timeout: Set<Duration>,
    /// Zero: a stream waits for its engine without a sign of life.
    pub(crate) heartbeat_after: Set<Duration>,
    pub(crate) heartbeat_every: Set<Duration>,
    pub(crate) ready_timeout: Set<Duration>,
    pub(crate) shutdown_timeout: Set<Duration>,
    pub(crate) ceilings: Set<Ceilings>,
    pub(crate) images: Set<media::Limits>,
    pub(crate) per_model: Set<BTreeMap<String, PerModel>>,
}

/// A value and who set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set<T> {
    pub(crate) value: T,
    pub(crate) from: Origin,
}

impl<T> std::ops::Deref for Set<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Flag => "flag",
            Origin::Environment => "environment",
            Origin::File => "file",
            Origin::Default => "default",
        })
    }
}

/// The environment, so that a test can bring its own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// This process's environment; a variable that is set to nothing counts as not set.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

impl Config {
    /// What results from these flags, the environment, and the file that either of them names.
    pub(crate) fn load(args: &Flags, env: Environment<'_>) -> Result<Self, ConfigError> {
        let file = args
            .place
            .config
            .clone()
            .or_else(|| env("LOGGIA_CONFIG").map(PathBuf::from));
        let file = file.map_or_else(|| Ok(Layer::default()), |path| Layer::from_file(&path))?;
        let layers = [
            (Origin::Flag, Layer::from_flags(args)),
            (Origin::Environment, Layer::from_env(env)?),
            (Origin::File, file),
        ];
        Config::resolve(&Layers(layers), env)
    }

    /// The same for the commands that only need to know where the models are.
    pub(crate) fn load_for_store(
        place: &StoreArgs,
        env: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        check_variables()?;
        Config::load(
            &Flags {
                place: place.clone(),
                ..Flags::default()
            },
            env,
        )
    }

    fn resolve(layers: &Layers, env: Environment<'_>) -> Result<Self, ConfigError> {
        let (limits, seconds) = (Limits::default(), Duration::from_secs);
        let span = |of: fn(&Layer) -> Option<Span>, default| {
            layers.pick(|layer| of(layer).map(|span| span.0), default)
        };
        Ok(Config {
            listen: layers.listen(),
            data_dir: match layers.find(|layer| layer.data_dir.clone()) {
                Some(set) => set,
                None => Set {
                    value: default_data_dir(env).ok_or(ConfigError::NoDataDir)?,
                    from: Origin::Default,
                },
            },
            strictness: layers.pick(Layer::strictness, Strictness::Plain),
            sampling_profile: layers.pick(|layer| layer.sampling_profile, SamplingProfile::Openai),
            models: layers.pick(|layer| layer.models.clone(), Vec::new()),
            lora: layers.pick(|layer| layer.lora.clone(), Vec::new()),
            mmproj: layers.pick(|layer| layer.mmproj.clone(), Vec::new()),
            context: layers.pick(|layer| layer.context.map(|tokens| Some(tokens.0)), None),
            parallel: layers.pick(
                |layer| layer.parallel,
                const { NonZeroU32::new(4).unwrap() },
            ),
            threads: layers.pick(|layer| layer.threads.map(Some), None),
            gpu_layers: layers.pick(|layer| layer.gpu_layers.map(Some), None),
            memory: layers.pick(|layer| layer.memory.map(Some), None),
            keep_alive: layers.pick(
                |layer| layer.keep_alive,
                KeepAlive(Some(Duration::from_hours(1))),
            ),
            ollama: layers.pick(
                |layer| {
                    Some(
                        layer
                            .ollama
                            .clone()?
                            .into_iter()
                            .map(Url::of_ollama)
                            .collect(),
                    )
                },
                Vec::new(),
            ),
            openai: with_keys(layers.pick(|layer| layer.openai.clone(), Vec::new()), env)?,
            aliases: layers.pick(|layer| layer.aliases.clone(), Vec::new()),
            key: keys::with_digests(layers.pick(|layer| layer.key.clone(), Vec::new()), env)?,
            cors_origins: layers.pick(|layer| layer.cors_origins.clone().map(Some), None),
            body_limit: layers.pick(|layer| layer.body_limit, ByteSize::mib(32)),
            workers: layers.pick(|layer| layer.workers.map(Some), None),
            max_connections: layers.pick(
                |layer| layer.max_connections,
                const { NonZeroU32::new(4096).unwrap() },
            ),
            head_timeout: span(|layer| layer.head_timeout, seconds(75)),
            body_timeout: span(|layer| layer.body_timeout, Duration::from_mins(2)),
            connect_timeout: span(|layer| layer.connect_timeout, limits.connect),
            headers_timeout: span(|layer| layer.headers_timeout, limits.headers),
            idle_timeout: span(|layer| layer.idle_timeout, limits.idle),
            stall_timeout: span(|layer| layer.stall_timeout, Duration::from_mins(1)),
            heartbeat_after: span(|layer| layer.heartbeat_after, seconds(10)),
            heartbeat_every: span(|layer| layer.heartbeat_every, seconds(10)),
            ready_timeout: span(|layer| layer.ready_timeout, seconds(5)),
            shutdown_timeout: span(|layer| layer.shutdown_timeout, seconds(30)),
            ceilings: layers.pick(
                |layer| layer.ceilings.as_ref().map(CeilingsTable::ceilings),
                Ceilings::default(),
            ),
            images: layers.pick(
                |layer| layer.images.as_ref().map(ImagesTable::limits),
                media::Limits::default(),
            ),
            per_model: layers.pick(|layer| layer.per_model.clone(), BTreeMap::new()),
        })
    }

    /// The same from this process's own environment, whose every variable can be looked at.
    pub(crate) fn of_this_process(args: &Flags) -> Result<Self, ConfigError> {
        check_variables()?;
        let config = Config::load(args, &environment)?;
        keys::of_nobody(&config.key, variables().map(|(name, _)| name))?;
        Ok(config)
    }

    /// What was understood although it is not written so: for people, a line each.
    pub(crate) fn notices(&self) -> Vec<String> {
        let of_engine = |engine: &Engine| (engine.name.clone(), engine.url.clone());
        let ollama = self
            .ollama
            .iter()
            .map(|url| ("ollama".to_owned(), url.clone()));
        let urls = ollama.chain(self.openai.iter().map(of_engine));
        let dropped = urls.filter_map(|(name, url)| Some((name, url.dropped.clone()?, url)));
        let notice = |(name, dropped, url): (String, String, Url)| {
            format!("{name}: its URL ends with the path of one route, {dropped}; {url} is used")
        };
        let keys = of_no_engine(&self.openai)
            .map(|name| format!("{name} is set, and no engine of that name is configured"));
        dropped.map(notice).chain(keys).collect()
    }

    /// The same with a model for the embedded engine and nothing else.
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

    /// Whether nothing is named that could answer, so that the default model is meant.
    pub(crate) fn names_no_backend(&self) -> bool {
        self.models.is_empty()
            && self.lora.is_empty()
            && self.ollama.is_empty()
            && self.openai.is_empty()
    }
}

/// An example of the variable for a setting, by what a flag for it would be called.
pub(crate) fn variable_of(flag: &str) -> Option<String> {
    let key = flag.replace('-', "_");
    settings::find(&key)
        .filter(|setting| setting.variable.is_some())
        .map(|setting| settings::example_of_variable(setting.key))
}

/// An example of what a flag can be set to, by its name.
pub(crate) fn example_of_flag(flag: &str) -> Option<&'static str> {
    let key = match flag {
        "--host" => return Some("0.0.0.0"),
        "--port" => return Some("8080"),
        "--hf" => return Some("bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M"),
        "--model" => "models",
        "--alias" => "aliases",
        _ => &flag.strip_prefix("--")?.replace('-', "_"),
    };
    settings::find(key)?.variable
}

/// The variables of this process that are set to something.
fn variables() -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(_, value)| !value.trim().is_empty())
}

/// A variable that looks like a setting and is none: whoever set it believes in it.
fn check_variables() -> Result<(), ConfigError> {
    let wrong = |(name, value): (String, String)| {
        let why = settings::what_is_wrong_with(&name, &value)?;
        Some(ConfigError::Variable { name, why })
    };
    variables().find_map(wrong).map_or(Ok(()), Err)
}

/// Variables with keys of engines that are not configured: harmless, and likely a slip in the name.
fn of_no_engine(engines: &[Engine]) -> impl Iterator<Item = String> {
    let is_of_none = |name: &String| {
        let is_key = name.starts_with("LOGGIA_OPENAI_") && name.ends_with("_KEY");
        is_key && !engines.iter().any(|engine| engine.key_variable() == *name)
    };
    variables().map(|(name, _)| name).filter(is_of_none)
}

/// The three sources, the strongest first.
struct Layers([(Origin, Layer); 3]);

impl Layers {
    fn find<T>(&self, of: impl Fn(&Layer) -> Option<T>) -> Option<Set<T>> {
        self.0.iter().find_map(|(from, layer)| {
            Some(Set {
                value: of(layer)?,
                from: *from,
            })
        })
    }

    /// Where to listen: what the strongest says, with the halves that `--host` and `--port` are.
    fn listen(&self) -> Set<Listen> {
        let mut listen = self.pick(|layer| layer.listen.clone(), Listen::default());
        if let Some(Set {
            value: Host(host),
            from,
        }) = self.find(|layer| layer.host.clone())
        {
            listen = Set {
                value: Listen {
                    host,
                    ..listen.value
                },
                from,
            };
        }
        if let Some(Set { value: port, from }) = self.find(|layer| layer.port) {
            listen = Set {
                value: Listen {
                    port,
                    ..listen.value
                },
                from,
            };
        }
        listen
    }

    fn pick<T>(&self, of: impl Fn(&Layer) -> Option<T>, default: T) -> Set<T> {
        self.find(of).unwrap_or(Set {
            value: default,
            from: Origin::Default,
        })
    }
}

/// Gives each engine the key that the environment holds for its name; one name means one engine.
fn with_keys(
    mut engines: Set<Vec<Engine>>,
    env: Environment<'_>,
) -> Result<Set<Vec<Engine>>, ConfigError> {
    for at in 0..engines.value.len() {
        let (before, rest) = engines.value.split_at_mut(at);
        let engine = &mut rest[0];
        if before.iter().any(|other| other.name == engine.name) {
            return Err(ConfigError::TwoEngines(engine.name.clone()));
        }
        let name = engine.key_variable();
        if let Some(key) = env(&name) {
            let key: Secret =
                key.parse()
                    .map_err(|why: value::ValueError| ConfigError::Variable {
                        name,
                        why: why.to_string(),
                    })?;
            engine.key = Some(key);
        }
    }
    Ok(engines)
}

fn default_data_dir(env: Environment<'_>) -> Option<PathBuf> {
    let home = || env("HOME").map(PathBuf::from);
    let base = if cfg!(windows) {
        env("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        // The XDG specification has a relative path ignored.
        let named = env("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        named.or_else(|| home().map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("loggia"))
}

#[cfg(test)]
mod tests;
