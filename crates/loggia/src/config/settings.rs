//! The table of settings. A new setting is one line here, plus the code that uses it. Its flag,
//! variable, key in the file, help text and line in `loggia check` are generated, and a test
//! compares `docs/configuration.md` with this table.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use loggia_api::{FileLimits, Policy};
use loggia_backend::http::Limits;
use loggia_backend::roster::Alias;
use loggia_server::ServerOptions;
use loggia_store::Retention;

use super::bounds::{CeilingsTable, ImagesTable};
use super::database::Database;
use super::environment::Environment;
use super::error::ConfigError;
use super::files_url::{FilesEndpoint, FilesUrl};
use super::keep_alive::KeepAlive;
use super::key_limits::{LimitsTable, LimitsUrl, TrustedHeaderName};
use super::keys::ApiKey;
use super::list::list;
use super::listen::Listen;
use super::lora::Lora;
use super::mmproj::Mmproj;
use super::number::{Count, Layers, Size, Switch};
use super::origin::{Origin, Set};
use super::per_model::PerModels;
use super::sources::{Sources, of_variable};
use super::table::{Setting, Value, Written, settings};
use super::tokens::Tokens;
use super::value::{
    CacheScope, CacheType, CollectorUrl, Engine, LogFormat, ModelName, ModerationFormat,
    OllamaPath, OllamaServer, SamplingProfile, Span,
};

/// Groups of flags in `--help`.
pub(super) const ENGINE: &str = "The built-in engine";
const BACKENDS: &str = "Other backends";
const STORE: &str = "Stored chats and conversations";
const LIMITS: &str = "Limits";

settings! {
    /// The address and port to listen on, or one of them; 0.0.0.0:11435 for every interface
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    listen: Listen { default(Listen::default()) }

    /// The folder for models and stored objects
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf { required("the user's data folder"), example "/var/lib/loggia" }

    /// Keep chat completions with store: true, and conversations, in a file in the data folder
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = STORE)]
    store: Switch { default(Switch(true)), example "false" }

    /// How long a stored object is kept after its last change; 0s for no limit
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, help_heading = STORE)]
    store_age: Span { default(Span(Retention::default().age.unwrap_or_default())), example "7days" }

    /// The size of all stored objects together; the oldest make room for new ones
    #[arg(long, value_name = "SIZE", help_heading = STORE)]
    store_size: Size { default(Size::of(usize::try_from(Retention::default().bytes).unwrap_or(usize::MAX))), example "1GiB" }

    /// A PostgreSQL database that keeps the stored objects, for servers that share them; its
    /// password may come from PGPASSWORD
    #[arg(long, value_name = "URL", help_heading = STORE)]
    store_url: Database {
        unset("an SQLite file in the data folder"),
        example "postgres://loggia@db.example/loggia"
    }

    /// The folder that holds the contents of files; servers that share a database share it too
    #[arg(long, value_name = "DIR", help_heading = STORE)]
    files_dir: PathBuf {
        unset("files in the data folder"),
        example "/mnt/loggia/files"
    }

    /// A bucket that holds the contents of files instead, for servers that share them; its keys come
    /// from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    #[arg(long, value_name = "s3://BUCKET/PREFIX", help_heading = STORE)]
    files_url: FilesUrl { unset("the folder files_dir"), example "s3://files/loggia" }

    /// The S3-compatible service that has the bucket
    #[arg(long, value_name = "URL", help_heading = STORE)]
    files_endpoint: FilesEndpoint {
        unset("AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else AWS"),
        example "https://s3.example"
    }

    /// The region of the bucket
    #[arg(long, value_name = "NAME", help_heading = STORE)]
    files_region: String {
        unset("AWS_REGION or AWS_DEFAULT_REGION, else us-east-1"),
        example "eu-central-1"
    }

    /// Put the name of the bucket into the path of its URLs; false puts it into the host's name
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = STORE)]
    files_path_style: Switch { default(Switch(true)), example "false" }

    /// Reach that service on another machine without TLS, as in a network that only the servers use
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = STORE)]
    files_plain_http: Switch { default(Switch(false)), example "true" }

    /// The largest file that a client may upload
    #[arg(long, value_name = "SIZE", help_heading = STORE)]
    file_size: Size, live { default(Size::of(usize::try_from(FileLimits::default().file_bytes).unwrap_or(usize::MAX))), example "2GiB" }

    /// The size of all files of one API key together
    #[arg(long, value_name = "SIZE", help_heading = STORE)]
    files_size: Size, live { default(Size::of(usize::try_from(FileLimits::default().key_bytes).unwrap_or(usize::MAX))), example "100GiB" }

    /// How many requests of batches are made at once
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = STORE)]
    batch_parallel: Count { unset("that of parallel"), example "16" }

    /// How many requests of clients make those of batches wait
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = STORE)]
    batch_clients: Count { default(Count(NonZeroU32::MIN)) }

    /// The model that computes the vectors of vector stores; each keeps the model it was made with
    #[arg(long, value_name = "NAME", help_heading = STORE)]
    embedding_model: String, live { unset("vector stores cannot be created"), example "all-minilm:33m" }

    /// The model of /v1/moderations, such as a Llama Guard 3 or a ShieldGemma, for requests that
    /// name none or one of OpenAI's
    #[arg(long, value_name = "MODEL", help_heading = BACKENDS)]
    moderation_model: String, live { unset("such requests get a 404"), example "llama-guard3:1b" }

    /// The format of that model's prompts and answers
    #[arg(long, value_name = "llama-guard|shieldgemma|questions", help_heading = BACKENDS)]
    moderation_format: ModerationFormat, live { unset("that of a model with its name"), example "llama-guard" }

    /// Encrypt the texts of stored objects, and files, with the first key of seal_keys
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = STORE)]
    store_encrypted: Switch { default(Switch(false)), example "true" }

    /// The file with the keys that seal what clients carry for the server, such as encrypted
    /// reasoning, and stored texts; servers that share clients share it
    #[arg(long, value_name = "FILE", help_heading = STORE)]
    seal_keys: PathBuf {
        unset("keys in the data folder"),
        example "/etc/loggia/keys"
    }

    /// Refuse what a backend would ignore: hints without effect, unknown fields
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "lenient")]
    strict: Switch, live { default(Switch(false)), example "true" }

    /// Drop the fields that a backend cannot honour instead of refusing the request, and name them
    /// in x-loggia-ignored
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lenient: Switch, live { default(Switch(false)), example "true" }

    /// How sampling fields are read: as OpenAI defines them, or as Ollama's first OpenAI layer did
    #[arg(long, value_name = "openai|original")]
    sampling_profile: SamplingProfile, live { default(SamplingProfile::Openai) }

    /// A model for the built-in engine, by its name, its GGUF file or a folder with one; a Whisper
    /// model by its folder or its ggml-….bin; may be repeated
    #[arg(short, long = "model", value_name = "NAME|FILE.gguf", help_heading = ENGINE)]
    #[serde(deserialize_with = "list")]
    models: Vec<ModelName> {
        empty("smollm2:135m if no backend is configured"),
        example "smollm2:135m"
    }

    /// A model with a LoRA adapter, under a name of its own; @0.5 after the file applies half of
    /// it; may be repeated
    #[arg(long, value_name = "NAME=BASE+FILE.gguf", help_heading = ENGINE)]
    #[serde(deserialize_with = "super::lora::tables")]
    lora: Vec<Lora> {
        empty("empty"),
        example "tuned=smollm2:135m+adapter.gguf",
        table r#"{ tuned = { base = "smollm2:135m", file = "adapter.gguf" } }"#
    }

    /// The projector with which a model sees or hears; NAME may be left out if there is one model;
    /// may be repeated
    #[arg(long, value_name = "NAME=FILE.gguf", help_heading = ENGINE)]
    #[serde(deserialize_with = "super::mmproj::table")]
    mmproj: Vec<Mmproj> {
        empty("the projector beside the model"),
        example "smolvlm=mmproj.gguf",
        table r#"{ smolvlm = "mmproj.gguf" }"#
    }

    /// The context of a model in tokens, prompt and answer together
    #[arg(short, long, value_name = "N", aliases = ["ctx-size", "max-model-len", "num-ctx"], help_heading = ENGINE)]
    context: Tokens { unset("the model's own, as far as the memory allows, at most 32,768"), example "8192" }

    /// How many requests a model answers at once; others wait
    #[arg(long, value_name = "N", allow_negative_numbers = true, aliases = ["max-num-seqs", "num-parallel"], help_heading = ENGINE)]
    parallel: Count { default(Count(const { NonZeroU32::new(4).unwrap() })) }

    /// The threads that a model computes with
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, help_heading = ENGINE)]
    threads: Count { unset("one per core that the process may use"), example "4" }

    /// How many layers of a model the GPU computes; 0 uses the CPU only
    #[arg(long, value_name = "N", allow_negative_numbers = true, aliases = ["n-gpu-layers", "ngl"], help_heading = ENGINE)]
    gpu_layers: Layers { unset("all layers, if the build has a usable GPU"), example "20" }

    /// Read text that a schema or grammar forces, such as property names, in one step
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = ENGINE)]
    fast_forward: Switch { default(Switch(true)), example "false" }

    /// Guess the next tokens from the prompt and the answer, while that makes answers faster
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = ENGINE)]
    lookup: Switch { default(Switch(true)), example "false" }

    /// The memory of all loaded models together: weights, context and compute buffers
    #[arg(long, value_name = "SIZE", help_heading = ENGINE)]
    memory: Size {
        unset("the memory available at the start; no limit in a GPU build"),
        example "12GiB"
    }

    /// How long a model stays loaded after its last request; forever keeps it
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, help_heading = ENGINE)]
    keep_alive: KeepAlive { default(KeepAlive(Some(Duration::from_hours(1)))) }

    /// The memory of each model for conversations that no slot holds any more, so that they are not
    /// read again; 0 for none
    #[arg(long, value_name = "SIZE", help_heading = ENGINE)]
    cache_memory: Size {
        unset("an eighth of the memory for all models, at most 4 GiB"),
        example "2GiB"
    }

    /// Keep such conversations on disk too, for restarts; the size of all their files together
    #[arg(long, value_name = "SIZE", help_heading = ENGINE)]
    cache_disk: Size { unset("off"), example "20GiB" }

    /// Whose requests share cached prompts: those of the whole server, or those of one API key
    #[arg(long, value_name = "server|key", help_heading = ENGINE)]
    cache_scope: CacheScope { default(CacheScope::Server) }

    /// The number format of keys in the context: q8_0 and q4_0 need less memory
    #[arg(long, value_name = "f16|q8_0|q4_0", help_heading = ENGINE)]
    cache_type_k: CacheType { default(CacheType::F16) }

    /// The number format of values in the context
    #[arg(long, value_name = "f16|q8_0|q4_0", help_heading = ENGINE)]
    cache_type_v: CacheType { default(CacheType::F16) }

    /// An Ollama server to put behind the API, as http://127.0.0.1:11434; servers with one name, as
    /// gpu=http://a:11434, are nodes of one backend; with dns+http:// each address of the host is a
    /// node; may be repeated
    #[arg(long, value_name = "URL|NAME=URL", help_heading = BACKENDS)]
    #[serde(deserialize_with = "list")]
    ollama: Vec<OllamaServer>, live { empty("empty"), example "http://127.0.0.1:11434" }

    /// An engine that speaks OpenAI already (vLLM, llama-server), under a name; its key comes from
    /// LOGGIA_OPENAI_<NAME>_KEY or the file; engines with one name are nodes of one backend; may be
    /// repeated
    #[arg(long, value_name = "NAME=URL", help_heading = BACKENDS)]
    openai: Vec<Engine>, live {
        empty("empty"),
        example "vllm=http://127.0.0.1:8000/v1",
        table r#"[{ name = "vllm", url = "http://127.0.0.1:8000/v1" }]"#
    }

    /// How often the names in dns+ URLs, of which each address is a node, are resolved again
    #[arg(long, value_name = "DURATION", help_heading = BACKENDS)]
    dns_refresh: Span, live { default(Span(Duration::from_secs(5))), example "30s" }

    /// How many requests each of these servers answers at once; others wait in a queue, in which
    /// the API keys take turns
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = BACKENDS)]
    at_once: Count, live { unset("no limit"), example "8" }

    /// After how long without an answer a request is made at a second node too; the first one to
    /// answer is used
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, help_heading = BACKENDS)]
    hedge_after: Span, live { unset("off"), example "2s" }

    /// How many requests wait for a backend with at_once; more are refused
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = BACKENDS)]
    queue: Count, live { default(Count(const { NonZeroU32::new(1000).unwrap() })) }

    /// The API keys. Without one, no key is required. A key is never a flag: every user of the
    /// machine could read it
    #[arg(skip)]
    key: Vec<ApiKey>, live {
        empty("empty: no key is required"),
        example "alice",
        table r#"[{ name = "alice" }]"#,
        variable "keys"
    }

    /// Whether requests need an API key; false serves everybody who can reach the address
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_key: Switch, live { unset("true if there is a key; else only this machine is served"), example "true" }

    /// The header in which a proxy that signs users in names the user of a request
    #[arg(long, value_name = "NAME")]
    trusted_header: TrustedHeaderName, live { unset("none"), example "x-forwarded-user" }

    /// The addresses of such proxies, as 10.1.2.3 or 10.0.0.0/8; may be repeated
    #[arg(long, value_name = "NETWORK")]
    #[serde(deserialize_with = "list")]
    trusted_peers: Vec<String>, live { empty("127.0.0.1 and ::1"), example "10.0.0.0/8" }

    /// A route of Ollama's own API that is passed on to Ollama servers, as /api/chat; may be repeated
    #[arg(long, value_name = "PATH")]
    #[serde(deserialize_with = "list")]
    ollama_api: Vec<OllamaPath>, live { empty("none"), example "/api/chat" }

    /// How much each API key may use, as requests_per_minute=60,tokens_per_day=1000000; all entries
    /// are in docs/keys.md
    #[arg(long, value_name = "ENTRY=VALUE,…", help_heading = LIMITS)]
    limits: LimitsTable, live {
        unset("no limits"),
        example "requests_per_minute=60",
        table "{ requests_per_minute = 60 }"
    }

    /// The Valkey or Redis by which several servers share the limits of keys
    #[arg(long, value_name = "URL", help_heading = LIMITS)]
    limits_url: LimitsUrl { unset("each server has limits of its own"), example "redis://valkey.example:6379" }

    /// How many servers share the limits; each allows its share while limits_url is away
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = LIMITS)]
    limits_servers: Count { default(Count(NonZeroU32::MIN)), example "3" }

    /// Another name for a model; * stands for any text, as in gpt-*=smollm2:135m; may be repeated
    #[arg(long = "alias", value_name = "FROM=TO")]
    #[serde(deserialize_with = "super::aliases::table")]
    aliases: Vec<Alias>, live {
        empty("empty"),
        example "gpt-*=smollm2:135m",
        table r#"{ "gpt-*" = "smollm2:135m" }"#
    }

    /// A web page whose scripts may use the API, as https://chat.example; * for every page; may be
    /// repeated
    #[arg(long, value_name = "ORIGIN")]
    #[serde(deserialize_with = "list")]
    cors_origins: Vec<String>, live {
        unset("localhost, 127.0.0.1 and [::1], any port"),
        example "https://chat.example"
    }

    /// The certificate of the server, with those that signed it, as PEM; serves HTTPS
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf { unset("plain HTTP"), example "/etc/loggia/tls.crt" }

    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf { unset("plain HTTP"), example "/etc/loggia/tls.key" }

    /// Count requests, tokens and times, and serve them to Prometheus at /metrics
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    metrics: Switch { default(Switch(true)), example "false" }

    /// An address of its own for /metrics, without API key
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Listen {
        unset("the address of the API, with an API key if one is required"),
        example "127.0.0.1:9464"
    }

    /// The OpenTelemetry collector that gets spans of requests by OTLP over HTTP, without /v1/traces
    #[arg(long, value_name = "URL")]
    otlp_endpoint: CollectorUrl {
        unset("OTEL_EXPORTER_OTLP_ENDPOINT; without it, no spans"),
        example "http://127.0.0.1:4318"
    }

    /// The format of the log's lines: text, or json, where each line is an object
    #[arg(long, value_name = "text|json")]
    log_format: LogFormat { default(LogFormat::Text), example "json" }

    /// Serve the console at /console: web pages for the operator, who enters an API key with the
    /// scope admin
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    console: Switch { default(Switch(true)), example "false" }

    /// The threads that serve connections
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    workers: Count { unset("half the number of cores"), example "2" }

    /// The largest body of a request
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    body_limit: Size, live { default(Size::of(Policy::default().body_limit)) }

    /// The largest recording that a client may send for a transcription or a translation
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    recording_size: Size, live { default(Size::of(usize::try_from(Policy::default().recording_bytes).unwrap_or(usize::MAX))), example "1GiB" }

    /// The longest recording that a Whisper model on this machine transcribes
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    recording_length: Span { default(Span(Duration::from_hours(2))), example "30min" }

    /// The most connections open at once; others wait in the kernel's queue
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = LIMITS)]
    max_connections: Count { default(Count::of(ServerOptions::default().max_connections)) }

    /// The time for the head of a request, and for an idle connection
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    head_timeout: Span { default(Span(ServerOptions::default().head_timeout)), example "75s" }

    /// The time in which a client must send the body of a request
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    body_timeout: Span, live { default(Span(Policy::default().body_within)) }

    /// The time to connect to a backend, with name resolution and TLS
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    connect_timeout: Span, live { default(Span(Limits::default().connect)) }

    /// The time until a backend begins its answer; it may have to load a model first
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    headers_timeout: Span, live { default(Span(Limits::default().headers)) }

    /// The time between two pieces of a backend's answer
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    idle_timeout: Span, live { default(Span(Limits::default().idle)) }

    /// When a stream whose engine has not begun is started with comment lines; 0s for never
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    heartbeat_after: Span, live { default(Span(Policy::default().heartbeat_after.unwrap_or_default())) }

    /// The time between two such comment lines; 0s sends only the first
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    heartbeat_every: Span, live { default(Span(Policy::default().heartbeat_every)) }

    /// How long a client may leave its answer unread before its connection is closed (Linux)
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    stall_timeout: Span { default(Span(ServerOptions::default().stall_timeout)) }

    /// How long a WebSocket connection may be used before its client has to open a new one
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    websocket_timeout: Span { default(Span(ServerOptions::default().websocket_timeout)) }

    /// How long a WebSocket connection may be without a frame while no response is made
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    websocket_idle_timeout: Span { default(Span(ServerOptions::default().websocket_idle_timeout)) }

    /// How long GET /readyz waits for the backends
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    ready_timeout: Span { default(Span(ServerOptions::default().ready_timeout)) }

    /// How long running answers may take after SIGTERM or Ctrl-C
    #[arg(long, value_name = "DURATION", help_heading = LIMITS)]
    shutdown_timeout: Span { default(Span(ServerOptions::default().shutdown_timeout)) }

    /// The ceilings of one request, as choices=8,answer_tokens=4096; all entries are in
    /// docs/configuration.md
    #[arg(long, value_name = "ENTRY=VALUE,…", help_heading = LIMITS)]
    ceilings: CeilingsTable, live {
        merged("below"),
        example "choices=16",
        table "{ choices = 16 }"
    }

    /// The limits on fetching the images of one request, as bytes=5MiB,fetches=4; all entries are
    /// in docs/configuration.md
    #[arg(long, value_name = "ENTRY=VALUE,…", help_heading = LIMITS)]
    images: ImagesTable, live {
        merged("below"),
        example "bytes=10MiB",
        table r#"{ bytes = "10MiB" }"#
    }

    /// Settings of single models, as smollm2:135m={strict=true}
    #[arg(long, value_name = "MODEL={KEY=VALUE,…}")]
    per_model: PerModels, live {
        empty("empty"),
        example "smollm2:135m={strict=true}",
        table r#"{ "smollm2:135m" = { strict = true } }"#
    }
}

/// A setting by its key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
