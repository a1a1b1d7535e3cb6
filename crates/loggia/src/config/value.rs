//! Types of settings: names, URLs, secrets, durations.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use loggia_api::{BadModelPattern, Strictness};
use loggia_backend::http::{BaseUrl, BaseUrlError, Key, KeyError};
use loggia_backend::{OllamaRoute, Profile, UnknownOllamaRoute};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Why a text is not a valid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error(
        "`{0}` is not an address to listen on; write 127.0.0.1:8080 for this machine, 0.0.0.0:8080 for every interface, or a port alone: 8080"
    )]
    Listen(String),
    #[error(
        "`{0}` is not a host; write 127.0.0.1, 0.0.0.0 for every interface, or a name, and use --port for the port"
    )]
    Host(String),
    #[error("`{0}` is not a number of tokens; write 8192 or 8k")]
    Tokens(String),
    #[error("`{0}` is not a whole number from 1")]
    Count(String),
    #[error("`{0}` is not a whole number")]
    Number(String),
    #[error("`{0}` is not a port number (0 to 65535)")]
    Port(String),
    #[error("`{0}` is neither true nor false")]
    Switch(String),
    #[error("`{0}` is not a size; write 512KiB, 32MiB or 12GiB")]
    Size(String),
    #[error("`{0}` is not ENTRY=VALUE; separate several entries with commas")]
    Entries(String),
    #[error("{0}")]
    Entry(String),
    #[error("`{0}` is not NAME=URL, as in vllm=http://127.0.0.1:8000/v1")]
    Engine(String),
    #[error("`{0}` is not a valid name for a backend; use letters, digits, `-`, `_` and `.`")]
    EngineName(String),
    #[error(transparent)]
    Url(#[from] BaseUrlError),
    // Without the text: it may have a password.
    #[error(
        "this is not the URL of a collector; write http://HOST:4318, and give an API key in OTEL_EXPORTER_OTLP_HEADERS"
    )]
    Collector,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("`{0}` is not a duration; write 500ms, 10s, 2min or 1h")]
    Span(String),
    #[error("`{0}` is neither a duration, as 5m, nor `forever`")]
    KeepAlive(String),
    #[error("`{0}` is neither openai nor original")]
    SamplingProfile(String),
    #[error("`{0}` is not a format of the log; write text or json")]
    LogFormat(String),
    #[error("`{0}` is not a cache scope; write server or key")]
    CacheScope(String),
    #[error("`{0}` is not a format of moderations; write llama-guard, shieldgemma or questions")]
    ModerationFormat(String),
    #[error("`{0}` is not a type for keys and values in the cache; write f16, q8_0 or q4_0")]
    CacheType(String),
    #[error(
        "`{0}` is not NAME=BASE+FILE, as in tuned=smollm2:135m+adapter.gguf; add @0.5 for a scale of 0.5"
    )]
    Lora(String),
    #[error("`{0}` is not a valid name for a model; it must not be empty or contain `*`")]
    LoraName(String),
    #[error("{0} is not a valid scale for an adapter; write a number, as 1.0")]
    LoraScale(String),
    #[error("`{0}` is not NAME=FILE, as in smolvlm=mmproj.gguf; NAME=none uses none")]
    Mmproj(String),
    #[error("`{0}` is not a valid name for an API key; use letters, digits, `-`, `_` and `.`")]
    KeyName(String),
    #[error(
        "an API key needs at least 16 characters, all of them visible ASCII; `openssl rand -hex 32` generates one"
    )]
    ApiKey,
    #[error("`sha256` must be 64 hex digits; `printf %s \"$KEY\" | sha256sum` prints them")]
    KeyDigest,
    #[error("the API key `{0}` has both `key` and `sha256`; remove one")]
    KeyTwice(String),
    #[error("`{0}` is not the name of a header; write x-forwarded-user")]
    HeaderName(String),
    // The error does not repeat the URL, because it may contain a password.
    #[error("this is not the address of a Valkey or Redis without TLS; write redis://host:6379")]
    LimitsUrl,
    // The error does not repeat the URL, because it may contain a password.
    #[error(
        "this is not the address of a PostgreSQL database; write postgres://user@host/database"
    )]
    Database,
    // Without the text: it may have keys.
    #[error(
        "this is not the address of a bucket; write s3://BUCKET/PREFIX, and give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    FilesUrl,
    // Without the text: it may have keys.
    #[error("this is not the URL of an S3-compatible service; write https://s3.example")]
    FilesEndpoint,
    #[error(transparent)]
    ModelPattern(#[from] BadModelPattern),
}

/// How sampling fields are interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SamplingProfile {
    Openai,
    Original,
}

impl FromStr for SamplingProfile {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "openai" => Ok(SamplingProfile::Openai),
            "original" => Ok(SamplingProfile::Original),
            _ => Err(ValueError::SamplingProfile(text.to_owned())),
        }
    }
}

impl From<SamplingProfile> for Profile {
    fn from(profile: SamplingProfile) -> Self {
        match profile {
            SamplingProfile::Openai => Profile::Openai,
            SamplingProfile::Original => Profile::Original,
        }
    }
}

impl fmt::Display for SamplingProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SamplingProfile::Openai => "openai",
            SamplingProfile::Original => "original",
        })
    }
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    /// Each line is a JSON object.
    Json,
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(ValueError::LogFormat(text.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// Whose requests share cached prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheScope {
    Server,
    Key,
}

impl FromStr for CacheScope {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "server" => Ok(CacheScope::Server),
            "key" => Ok(CacheScope::Key),
            _ => Err(ValueError::CacheScope(text.to_owned())),
        }
    }
}

impl fmt::Display for CacheScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CacheScope::Server => "server",
            CacheScope::Key => "key",
        })
    }
}

/// The format of a model's prompts and answers for moderations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModerationFormat {
    #[serde(rename = "llama-guard")]
    LlamaGuard,
    ShieldGemma,
    Questions,
}

impl FromStr for ModerationFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "llama-guard" => Ok(Self::LlamaGuard),
            "shieldgemma" => Ok(Self::ShieldGemma),
            "questions" => Ok(Self::Questions),
            _ => Err(ValueError::ModerationFormat(text.to_owned())),
        }
    }
}

impl fmt::Display for ModerationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LlamaGuard => "llama-guard",
            Self::ShieldGemma => "shieldgemma",
            Self::Questions => "questions",
        })
    }
}

impl From<ModerationFormat> for loggia_api::ModerationFormat {
    fn from(format: ModerationFormat) -> Self {
        match format {
            ModerationFormat::LlamaGuard => Self::LlamaGuard,
            ModerationFormat::ShieldGemma => Self::ShieldGemma,
            ModerationFormat::Questions => Self::Questions,
        }
    }
}

/// A route of Ollama's own API that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OllamaPath(pub(crate) OllamaRoute);

impl FromStr for OllamaPath {
    type Err = UnknownOllamaRoute;

    fn from_str(path: &str) -> Result<Self, UnknownOllamaRoute> {
        path.parse().map(Self)
    }
}

impl fmt::Display for OllamaPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for OllamaPath {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// The number format of keys or values in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheType {
    F16,
    Q8_0,
    Q4_0,
}

impl FromStr for CacheType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "f16" => Ok(CacheType::F16),
            "q8_0" => Ok(CacheType::Q8_0),
            "q4_0" => Ok(CacheType::Q4_0),
            _ => Err(ValueError::CacheType(text.to_owned())),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        })
    }
}

/// A model of the embedded engine: a name or a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct ModelName(pub(crate) String);

impl ModelName {
    /// The path, if the text looks like the path of a GGUF file.
    pub(crate) fn file(&self) -> Option<&std::path::Path> {
        let path = std::path::Path::new(&self.0);
        let is_file = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
        (is_file && !self.0.starts_with("hf:")).then_some(path)
    }

    /// Makes a relative path relative to a folder.
    pub(super) fn beside(&self, beside: &dyn Fn(&std::path::Path) -> std::path::PathBuf) -> Self {
        let is_path = ["./", "../", "/"]
            .iter()
            .any(|start| self.0.starts_with(start));
        let path = self
            .file()
            .or_else(|| is_path.then(|| std::path::Path::new(&self.0)));
        path.map_or_else(
            || self.clone(),
            |path| ModelName(beside(path).to_string_lossy().into_owned()),
        )
    }
}

impl FromStr for ModelName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(ModelName(text.to_owned()))
    }
}

/// Combines `strict` and `lenient`.
pub(super) fn strictness(strict: Option<bool>, lenient: Option<bool>) -> Option<Strictness> {
    match (strict, lenient) {
        (None, None) => None,
        (Some(true), _) => Some(Strictness::Strict),
        (_, Some(true)) => Some(Strictness::Lenient),
        _ => Some(Strictness::Plain),
    }
}

/// The URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Url {
    pub(crate) base: BaseUrl,
    /// The path of a route that was removed from the end, such as `/chat/completions`.
    pub(crate) dropped: Option<String>,
    /// Whether each address of its host is a node: `dns+http://…`.
    pub(crate) by_dns: bool,
}

/// The beginning of a URL of which each address is a node.
const BY_DNS: &str = "dns+";

/// Routes that people copy together with the URL of an OpenAI engine.
const OPENAI_ROUTES: [&str; 5] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/models",
];

/// Routes that people copy together with the URL of an Ollama server. Its own API is not under
/// `/v1`.
const OLLAMA_ROUTES: [&str; 8] = [
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/show",
    "/api/embed",
    "/api/version",
    "/api",
    "/v1",
];

impl Url {
    /// Removes the path of a route, for an OpenAI engine.
    pub(crate) fn of_openai(self) -> Self {
        self.without(&OPENAI_ROUTES)
    }

    /// Removes the path of a route, for an Ollama server.
    pub(crate) fn of_ollama(self) -> Self {
        self.without(&OPENAI_ROUTES).without(&OLLAMA_ROUTES)
    }

    fn without(self, routes: &[&str]) -> Self {
        match routes
            .iter()
            .find_map(|route| Some((self.base.without(route)?, *route)))
        {
            Some((base, route)) => Self {
                base,
                dropped: Some([route, &self.dropped.unwrap_or_default()].concat()),
                ..self
            },
            None => self,
        }
    }
}

impl FromStr for Url {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let by_dns = text.trim_start().strip_prefix(BY_DNS);
        Ok(Url {
            base: by_dns.unwrap_or(text).parse()?,
            dropped: None,
            by_dns: by_dns.is_some(),
        })
    }
}

impl TryFrom<String> for Url {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_dns {
            f.write_str(BY_DNS)?;
        }
        self.base.fmt(f)
    }
}

/// The URL of an OpenTelemetry collector: `http://127.0.0.1:4318`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CollectorUrl(BaseUrl);

impl FromStr for CollectorUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let base = text.parse();
        base.map(Self)
            .map_err(|_: BaseUrlError| ValueError::Collector)
    }
}

impl TryFrom<String> for CollectorUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ollama server: `URL`, or `NAME=URL`, where servers with one name are nodes of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct OllamaServer {
    pub(crate) name: Option<String>,
    pub(crate) url: Url,
}

impl FromStr for OllamaServer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, url) = match text.split_once('=') {
            // A URL may have a `=` itself.
            Some((name, url)) if !name.contains("://") => {
                if !is_plain_name(name) {
                    return Err(ValueError::EngineName(name.to_owned()));
                }
                (Some(name.to_owned()), url)
            }
            _ => (None, text),
        };
        let url: Url = url.parse()?;
        Ok(Self {
            name,
            url: url.of_ollama(),
        })
    }
}

impl TryFrom<String> for OllamaServer {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for OllamaServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        self.url.fmt(f)
    }
}

/// An API key of a server. It is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Key);

impl FromStr for Secret {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Files that contain a key often end with a newline.
        Ok(Secret(text.trim().parse()?))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        text(input)?.parse().map_err(D::Error::custom)
    }
}

/// Reads a secret. The parser's own message would quote a value of another type, such as a number
/// without quotes.
pub(super) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(input)? {
        toml::Value::String(text) => Ok(text),
        _ => Err(D::Error::custom("a secret must be a text in quotes")),
    }
}

/// An OpenAI engine: `--openai NAME=URL`, or `[[openai]]` in the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "EngineTable")]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) key: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineTable {
    name: String,
    url: Url,
    key: Option<Secret>,
}

impl TryFrom<EngineTable> for Engine {
    type Error = ValueError;

    fn try_from(EngineTable { name, url, key }: EngineTable) -> Result<Self, ValueError> {
        if !is_plain_name(&name) {
            return Err(ValueError::EngineName(name));
        }
        Ok(Engine {
            name,
            url: url.of_openai(),
            key,
        })
    }
}

impl Engine {
    /// The variable that has its API key: `LOGGIA_OPENAI_MY_VLLM_KEY` for `my-vllm`.
    pub(crate) fn key_variable(&self) -> String {
        format!("LOGGIA_OPENAI_{}_KEY", variable(&self.name))
    }
}

/// Whether this is a valid name for an engine or a key.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(plain)
}

/// A name as a part of a variable's name.
pub(super) fn variable(name: &str) -> String {
    name.chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() {
                char.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

impl FromStr for Engine {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, url) = text
            .split_once('=')
            .ok_or_else(|| ValueError::Engine(text.to_owned()))?;
        EngineTable {
            name: name.to_owned(),
            url: url.parse()?,
            key: None,
        }
        .try_into()
    }
}

/// A duration: `10s`, `2min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        humantime::parse_duration(text)
            .map(Span)
            .map_err(|_| ValueError::Span(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_a_name_and_an_address() {
        let engine: Engine = "my-vllm=http://gpu:8000/v1/".parse().unwrap();
        assert_eq!(
            (engine.name.as_str(), engine.url.to_string()),
            ("my-vllm", "http://gpu:8000/v1".to_owned())
        );
        assert_eq!(engine.key_variable(), "LOGGIA_OPENAI_MY_VLLM_KEY");
        for bad in [
            "http://gpu:8000",
            "=http://gpu",
            "a/b=http://gpu",
            "v=gpu:8000",
            "v=file:///x",
            "v=http://gpu?x=1",
        ] {
            assert!(bad.parse::<Engine>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ollama_server_may_have_a_name() {
        let server = |text: &str| text.parse::<OllamaServer>();
        for (text, name, url) in [
            ("http://a:1/api", None, "http://a:1"),
            ("http://a:1/x=y", None, "http://a:1/x=y"),
            ("gpu=http://a:1/v1", Some("gpu"), "http://a:1"),
            ("gpu=dns+http://a:1/api", Some("gpu"), "dns+http://a:1"),
        ] {
            let server = server(text).unwrap();
            assert_eq!(server.name.as_deref(), name, "{text}");
            assert_eq!(server.url.to_string(), url, "{text}");
            let again: OllamaServer = server.to_string().parse().unwrap();
            assert_eq!(again.name, server.name);
        }
        for bad in ["=http://a", "a b=http://a", "gpu=a:1", "gpu="] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let engine = Engine {
            key: Some("hunter2\n".parse().unwrap()),
            .."v=http://gpu".parse().unwrap()
        };
        let printed = format!(
            "{engine:?} {}",
            "v=http://me:hunter2@gpu".parse::<Engine>().unwrap_err()
        );
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!("2min".parse(), Ok(Span(Duration::from_mins(2))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
        assert!("10".parse::<Span>().is_err());
    }

    #[test]
    fn a_model_is_a_file_only_where_it_is_named_like_one() {
        let file = |name: &str| ModelName(name.to_owned()).file().is_some();
        assert!(file("a/m.gguf") && file("m.GGUF"));
        assert!(!file("smollm2:135m") && !file("hf:o/r:m.gguf") && !file("o/r:Q4_K_M"));
    }
}
