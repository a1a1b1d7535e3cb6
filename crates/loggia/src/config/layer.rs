//! What one source says: flags, the environment or a file. A setting that it does not speak of is
//! left open.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use loggia_api::Strictness;
use loggia_backend::roster::Alias;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, IntoDeserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Environment;
use super::bounds::{CeilingsTable, ImagesTable};
use super::keep_alive::KeepAlive;
use super::keys::ApiKey;
use super::listen::{Host, Listen};
use super::lora::Lora;
use super::mistake::Mistake;
use super::mmproj::Mmproj;
use super::settings;
use super::tokens::Tokens;
use super::value::{Engine, ModelName, PerModel, SamplingProfile, Span, Url, ValueError};
use crate::cli::Flags;

/// Why no configuration results.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path}: {cause}")]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("the configuration file {path}, line {line}: {why}")]
    Parse {
        path: PathBuf,
        line: usize,
        why: String,
    },
    #[error("the environment variable {name}: {why}")]
    Variable { name: String, why: String },
    #[error("strict and lenient exclude each other; {0} sets both")]
    StrictAndLenient(String),
    #[error("two engines are called `{0}`; each needs a name of its own")]
    TwoEngines(String),
    #[error("the key `{name}` has no text; set {variable}, or `key` or `sha256` in the file")]
    NoKey { name: String, variable: String },
    #[error(
        "the keys `{0}` and `{1}` are the same, or named alike; each needs a name and a text of its own"
    )]
    TwoKeys(String, String),
    #[error(
        "the environment variable {0} holds a key of nobody; name its holder with LOGGIA_KEYS, or with [[key]] in the file"
    )]
    KeyOfNobody(String),
    #[error(
        "there is no home directory to keep models in; name a folder with --data-dir or LOGGIA_DATA_DIR"
    )]
    NoDataDir,
}

/// One source's wishes; its names are the keys of the file. A key that means nothing is an error:
/// it would be a setting that its writer believes in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    pub(super) listen: Option<Listen>,
    pub(super) data_dir: Option<PathBuf>,
    strict: Option<bool>,
    lenient: Option<bool>,
    pub(super) sampling_profile: Option<SamplingProfile>,
    #[serde(default, deserialize_with = "list")]
    pub(super) models: Option<Vec<ModelName>>,
    #[serde(default, deserialize_with = "super::lora::tables")]
    pub(super) lora: Option<Vec<Lora>>,
    #[serde(default, deserialize_with = "super::mmproj::table")]
    pub(super) mmproj: Option<Vec<Mmproj>>,
    pub(super) context: Option<Tokens>,
    pub(super) parallel: Option<NonZeroU32>,
    pub(super) threads: Option<NonZeroU32>,
    pub(super) gpu_layers: Option<u32>,
    pub(super) memory: Option<ByteSize>,
    pub(super) keep_alive: Option<KeepAlive>,
    #[serde(default, deserialize_with = "list")]
    pub(super) ollama: Option<Vec<Url>>,
    pub(super) openai: Option<Vec<Engine>>,
    #[serde(default, deserialize_with = "aliases")]
    pub(super) aliases: Option<Vec<Alias>>,
    pub(super) key: Option<Vec<ApiKey>>,
    #[serde(default, deserialize_with = "list")]
    pub(super) cors_origins: Option<Vec<String>>,
    pub(super) body_limit: Option<ByteSize>,
    pub(super) workers: Option<NonZeroU32>,
    pub(super) max_connections: Option<NonZeroU32>,
    pub(super) head_timeout: Option<Span>,
    pub(super) body_timeout: Option<Span>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) headers_timeout: Option<Span>,
    pub(super) idle_timeout: Option<Span>,
    pub(super) stall_timeout: Option<Span>,
    pub(super) heartbeat_after: Option<Span>,
    pub(super) heartbeat_every: Option<Span>,
    pub(super) ready_timeout: Option<Span>,
    pub(super) shutdown_timeout: Option<Span>,
    pub(super) ceilings: Option<CeilingsTable>,
    pub(super) images: Option<ImagesTable>,
    pub(super) per_model: Option<BTreeMap<String, PerModel>>,
    /// `--host` and `--port`: halves of what listens, whoever says the other half.
    #[serde(skip)]
    pub(super) host: Option<Host>,
    #[serde(skip)]
    pub(super) port: Option<u16>,
}

impl Layer {
    /// The flags.
    pub(super) fn from_flags(args: &Flags) -> Self {
        Layer {
            listen: args.listen.clone(),
            host: args.host.clone(),
            port: args.port,
            data_dir: args.place.data_dir.clone(),
            // A flag that is not there says nothing. clap lets only one of these two through.
            strict: args.strict.then_some(true),
            lenient: args.lenient.then_some(true),
            sampling_profile: args.sampling_profile,
            models: some(&args.models()),
            lora: some(&args.lora),
            mmproj: some(&args.mmproj),
            context: args.context,
            parallel: args.parallel,
            threads: args.threads,
            gpu_layers: args.gpu_layers,
            ollama: some(&args.ollama),
            openai: some(&args.openai),
            aliases: some(&args.aliases),
            ..Layer::default()
        }
    }

    /// The variables `LOGGIA_…`; lists are separated by commas.
    pub(super) fn from_env(env: Environment<'_>) -> Result<Self, ConfigError> {
        let env = Variables(env);
        let layer = Layer {
            listen: env.one("LISTEN")?,
            data_dir: env.one("DATA_DIR")?,
            strict: env.one("STRICT")?.map(|Flag(is)| is),
            lenient: env.one("LENIENT")?.map(|Flag(is)| is),
            sampling_profile: env.one("SAMPLING_PROFILE")?,
            models: env.list("MODELS")?,
            lora: env.list("LORA")?,
            mmproj: env.list("MMPROJ")?,
            context: env.one("CONTEXT")?,
            parallel: env.one("PARALLEL")?,
            threads: env.one("THREADS")?,
            gpu_layers: env.one("GPU_LAYERS")?,
            memory: env.one("MEMORY")?,
            keep_alive: env.one("KEEP_ALIVE")?,
            ollama: env.list("OLLAMA")?,
            openai: env.list("OPENAI")?,
            aliases: env.list("ALIASES")?,
            // A list of nobody must not open what the file keeps closed.
            key: env.list("KEYS")?.filter(|keys| !keys.is_empty()),
            cors_origins: env.list("CORS_ORIGINS")?,
            body_limit: env.one("BODY_LIMIT")?,
            workers: env.one("WORKERS")?,
            max_connections: env.one("MAX_CONNECTIONS")?,
            head_timeout: env.one("HEAD_TIMEOUT")?,
            body_timeout: env.one("BODY_TIMEOUT")?,
            connect_timeout: env.one("CONNECT_TIMEOUT")?,
            headers_timeout: env.one("HEADERS_TIMEOUT")?,
            idle_timeout: env.one("IDLE_TIMEOUT")?,
            stall_timeout: env.one("STALL_TIMEOUT")?,
            heartbeat_after: env.one("HEARTBEAT_AFTER")?,
            heartbeat_every: env.one("HEARTBEAT_EVERY")?,
            ready_timeout: env.one("READY_TIMEOUT")?,
            shutdown_timeout: env.one("SHUTDOWN_TIMEOUT")?,
            // Tables are for the file: names of models, for one, do not go into names of variables.
            ceilings: None,
            images: None,
            per_model: None,
            host: None,
            port: None,
        };
        layer.checked("the environment")
    }

    /// A TOML file. What it names by a relative path lies beside it, wherever the program was
    /// started.
    pub(super) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let wrong = |Mistake { line, why }| ConfigError::Parse {
            path: path.to_owned(),
            line,
            why,
        };
        let parsed = toml::Deserializer::parse(&text)
            .map_err(|error| wrong(Mistake::of_syntax(&text, &error)))?;
        let mut layer: Layer = serde_path_to_error::deserialize(parsed)
            .map_err(|error| wrong(Mistake::at(&text, &error.path().to_string(), error.inner())))?;
        let beside = |named: &Path| {
            path.parent()
                .map_or_else(|| named.to_owned(), |folder| folder.join(named))
        };
        layer.data_dir = layer.data_dir.as_deref().map(beside);
        for model in layer.models.iter_mut().flatten() {
            *model = model.beside(&beside);
        }
        layer.mmproj = layer.mmproj.map(|all| {
            all.into_iter()
                .map(|mmproj| mmproj.beside(&beside))
                .collect()
        });
        for its in layer.per_model.iter_mut().flat_map(BTreeMap::values_mut) {
            its.draft = its.draft.as_ref().map(|draft| draft.beside(&beside));
        }
        layer.lora = layer
            .lora
            .map(|all| all.into_iter().map(|lora| lora.beside(&beside)).collect());
        layer.checked(&path.display().to_string())
    }

    /// What this source says of the two flags that are one setting.
    pub(super) fn strictness(&self) -> Option<Strictness> {
        super::value::strictness(self.strict, self.lenient)
    }

    fn checked(self, source: &str) -> Result<Self, ConfigError> {
        let both = |strict, lenient| (strict, lenient) == (Some(true), Some(true));
        if both(self.strict, self.lenient) {
            return Err(ConfigError::StrictAndLenient(source.to_owned()));
        }
        let mut models = self.per_model.iter().flatten();
        if let Some((model, _)) = models.find(|(_, its)| both(its.strict, its.lenient)) {
            return Err(ConfigError::StrictAndLenient(format!(
                "{source}, for the model `{model}`,"
            )));
        }
        if let Some(key) = self
            .key
            .iter()
            .flatten()
            .find(|key| both(key.strict, key.lenient))
        {
            return Err(ConfigError::StrictAndLenient(format!(
                "{source}, for the key `{}`,",
                key.name
            )));
        }
        Ok(self)
    }
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// A table in the file: `"gpt-*" = "smollm2:135m"`.
fn aliases<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Alias>>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(input)?;
    let aliases = table
        .into_iter()
        .map(|(from, to)| Alias::new(from, to).map_err(D::Error::custom));
    aliases.collect::<Result<_, _>>().map(Some)
}

/// A list; one text stands for a list of it.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    input: D,
) -> Result<Option<Vec<T>>, D::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::deserialize(text.to_owned().into_deserializer())?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }
    }

    input.deserialize_any(List(PhantomData)).map(Some)
}

/// A switch in a variable.
struct Flag(bool);

impl FromStr for Flag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Self(true)),
            "false" | "0" | "no" | "off" => Ok(Self(false)),
            _ => Err(ValueError::Flag(text.to_owned())),
        }
    }
}

struct Variables<'a>(Environment<'a>);

impl Variables<'_> {
    fn one<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        let name = format!("LOGGIA_{name}");
        (self.0)(&name).map(|text| parse(&name, &text)).transpose()
    }

    fn list<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<Vec<T>>, ConfigError> {
        let name = format!("LOGGIA_{name}");
        let Some(text) = (self.0)(&name) else {
            return Ok(None);
        };
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items
            .map(|item| parse(&name, item))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, ConfigError> {
    text.trim().parse().map_err(|why: T::Err| {
        let example =
            settings::example_of_variable(&name.trim_start_matches("LOGGIA_").to_ascii_lowercase());
        ConfigError::Variable {
            name: name.to_owned(),
            why: format!("{why}; for example {example}"),
        }
    })
}
