//! `loggia serve`: builds the backends and the app, and serves until SIGTERM or Ctrl-C.
//!
//! `options` makes the libraries' settings from the configuration, `metrics` serves the metrics at an
//! address of their own, `reload` reads again what may change, `start_message` prints what is
//! served, `systemd` speaks with systemd, and `traces` records spans. `own_server` is the server that `loggia chat` and
//! `loggia bench` start for themselves.

mod metrics;
mod options;
mod own_server;
mod reload;
mod start_message;
mod systemd;
mod traces;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use loggia_api::store::{KeyStore, NodeStore, UsageStore};
use loggia_api::{Documents, Store};
use loggia_backend::Backend;
use loggia_backend::emulate::Emulate;
use loggia_backend::fetch_images::{FetchImages, WebhookSender};
use loggia_backend::roster::Roster;
use loggia_mcp::HttpMcpClient;
use loggia_seal::Keys;
use loggia_server::{AppState, LastReload, Ledger, ServerOptions, SharedLimits, Traces, app};
use loggia_store::SqlStore;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::backends::{Backends, ModelError, Parts, Servers};
use crate::config::{Config, Flags, Listen, environment};
use crate::documents::ReadDocuments;
use crate::files;
use crate::models::{self, Progress, Source, Store as ModelStore};
use crate::state;

pub(crate) use own_server::{OwnServer, random_key, start_own_server};
pub(crate) use start_message::{can_chat, reachable};

pub(super) use options::policy;
use options::{options, policy_at};
use reload::Reload;
use start_message::{EngineSettings, print_line};

/// How long the last spans may take to be sent when the program ends.
const SPANS_SENT_WITHIN: Duration = Duration::from_secs(3);

/// Serves until SIGTERM or Ctrl-C. Running answers may then finish within `shutdown_timeout`.
pub(crate) async fn serve(flags: &Flags, config: &Config, runtime: &Handle) -> anyhow::Result<()> {
    let mut options = options(config)?;
    options.traces = traces::start(config, &environment, runtime)?;
    let listener = listener(config).await?;
    let address = listener.local_addr()?;
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
    let keys = state::keys(config)?;
    let store = state::open(config, &keys).await?;
    if let Some(store) = &store {
        follow_stored_keys(&options, store, runtime).await;
    }
    let requires_key = options.keys.are_required();
    refuse_to_be_open(config, requires_key, address)?;
    let metrics_listener = metrics::listener(config).await?;
    let may_download = config.names_no_backend();
    let traces = options.traces.as_ref();
    let backends = configured_backends(config, traces, may_download, runtime).await?;
    let settings = EngineSettings::of(&backends, config);
    // Signals are handled from here on. Before, nothing needs to be shut down, and a signal may end
    // the process as usual.
    let shutdown = stop_signal()?;
    let backend = backend(&backends.roster, config);
    let policy = policy_at(config, address);
    let state = AppState::new(backend.clone(), policy, options.clone());
    let documents = ReadDocuments::new(config.images.limits());
    let state = with_services(state, &keys, &documents, config, runtime)?;
    let last_reload = LastReload::of_start();
    let state = with_backends(state, &backends.parts).with_last_reload(last_reload.clone());
    follow_nodes(&backends.parts.servers, store.as_ref(), runtime).await;
    let ledger = Ledger::default();
    let state = match &store {
        Some(store) => with_store(state, store, &ledger, &keys, config, runtime).await?,
        None => state,
    };
    start_figures(&options, &backends.parts, metrics_listener, runtime);
    let url = format!("{}://{address}", scheme(&options));
    print_line(&format!("loggia: listening on {url}"));
    systemd::ready();
    warn_if_open(requires_key, address);
    let url = format!("{}://{}", scheme(&options), reachable(address));
    let loading = async {
        backends.load.await?;
        start_message::print(&*backend, &settings, &url, requires_key).await;
        // It ends with the server.
        std::future::pending::<anyhow::Result<()>>().await
    };
    let reload = Reload::new(
        flags,
        address,
        &state,
        &options,
        backends.parts,
        documents,
        last_reload,
    );
    let ended = tokio::select! {
        served = run(listener, state, shutdown, &options) => served,
        failed = loading => failed,
        failed = reload.watch(config) => failed,
    };
    if let Some(store) = &store {
        write_last_usage(&ledger, store).await;
    }
    backends.unload.await;
    if let Some(traces) = &options.traces {
        traces.finish(SPANS_SENT_WITHIN).await;
    }
    ended
}

/// The listener: the socket that systemd passed on, or a new one.
async fn listener(config: &Config) -> anyhow::Result<TcpListener> {
    match systemd::socket()? {
        Some(socket) => Ok(socket),
        None => listen(&config.listen, "--listen 127.0.0.1:8080").await,
    }
}

/// Starts to collect the figures of the console and of the metrics.
fn start_figures(
    options: &ServerOptions,
    parts: &Parts,
    metrics_listener: Option<TcpListener>,
    runtime: &Handle,
) {
    if let Some(live) = options.live.clone() {
        runtime.spawn(live.keep());
    }
    if let Some(metrics) = &options.metrics {
        metrics::start(metrics, parts, metrics_listener, runtime);
    }
}

/// Adds the single backends and their nodes, for the admin API.
fn with_backends(state: AppState, parts: &Parts) -> AppState {
    let (shown, read) = (parts.clone(), parts.clone());
    state
        .with_backends(move || shown.shown(), move || read.readings())
        .with_nodes(Arc::new(parts.servers.clone()))
}

/// Reads the nodes that operators added and drained, and then notices changes of them and of DNS
/// names. Without a store, they are kept until the program ends.
async fn follow_nodes(servers: &Servers, store: Option<&Arc<SqlStore>>, runtime: &Handle) {
    if let Some(store) = store {
        let store = Arc::clone(store) as Arc<dyn NodeStore>;
        if let Err(error) = servers.load(store).await {
            tracing::warn!(%error, "the nodes that operators added and drained cannot be read");
        }
        runtime.spawn(servers.clone().follow());
    }
    runtime.spawn(servers.follow_names());
}

/// Serves until `shutdown` resolves, and until background responses have ended.
async fn run(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()>,
    options: &ServerOptions,
) -> anyhow::Result<()> {
    let (background, app) = (state.background(), app(state));
    let (stop, stops) = oneshot::channel();
    let shutdown = async {
        shutdown.await;
        systemd::stopping();
        // This fails only if the receiver is gone.
        let _ = stop.send(());
    };
    let finish_background = async {
        // An error means that the listener failed, which also stops the server.
        let _ = stops.await;
        background.finish(options.shutdown_timeout).await;
    };
    let serving = loggia_server::run(listener, app, shutdown, options);
    let (served, ()) = tokio::join!(serving, finish_background);
    served.context("the listener failed")
}

/// Writes the last usage of the API keys.
async fn write_last_usage(ledger: &Ledger, store: &SqlStore) {
    if let Err(error) = ledger.write(store).await {
        tracing::warn!(%error, "the usage of API keys in the last moments was not stored");
    }
}

/// Reads the API keys of the store, and then notices their changes.
async fn follow_stored_keys(options: &ServerOptions, store: &Arc<SqlStore>, runtime: &Handle) {
    let keys = options.keys.clone();
    if let Err(error) = keys.load(&**store).await {
        tracing::warn!(%error, "stored API keys cannot be read; requests need one until they can be");
    }
    runtime.spawn(keys.follow(Arc::clone(store) as Arc<dyn KeyStore>));
}

/// Returns the limits that several servers share, if that is configured.
fn shared_limits(config: &Config, runtime: &Handle) -> anyhow::Result<Option<Arc<SharedLimits>>> {
    let Some(url) = &config.limits_url.value else {
        return Ok(None);
    };
    let limits = SharedLimits::new(url.with_password(), config.limits_servers.get());
    let limits = Arc::new(limits.context("limits_url")?);
    runtime.spawn(Arc::clone(&limits).follow());
    Ok(Some(limits))
}

/// Adds the services that need no store: sealing, background work, MCP, documents, shared limits.
fn with_services(
    state: AppState,
    keys: &Arc<Keys>,
    documents: &Arc<ReadDocuments>,
    config: &Config,
    runtime: &Handle,
) -> anyhow::Result<AppState> {
    let documents = Arc::clone(documents) as Arc<dyn Documents>;
    let state = state
        .with_keys(Arc::clone(keys))
        .with_runtime(runtime.clone())
        .with_mcp(mcp(config))
        .with_documents(documents);
    Ok(match shared_limits(config, runtime)? {
        Some(limits) => state.with_shared_limits(limits),
        None => state,
    })
}

/// Adds the services that need the store: the usage of keys, stored objects, files, vector stores,
/// batches, and the admin API of keys.
async fn with_store(
    state: AppState,
    store: &Arc<SqlStore>,
    ledger: &Ledger,
    keys: &Arc<Keys>,
    config: &Config,
    runtime: &Handle,
) -> anyhow::Result<AppState> {
    runtime.spawn(
        ledger
            .clone()
            .keep(Arc::clone(store) as Arc<dyn UsageStore>),
    );
    // The gauge is added first, so that lines of batches are counted too.
    let state = state
        .with_ledger(ledger.clone())
        .with_usage(Arc::clone(store) as Arc<dyn UsageStore>);
    let state = state.with_key_store(Arc::clone(store) as Arc<dyn KeyStore>);
    runtime.spawn(state::clean(Arc::clone(store)));
    // Before anything is served: afterwards, files that are being received look the same.
    let (blobs, leftovers) = files::open(config, keys, store).await?;
    let state = state.with_store(Arc::clone(store) as Arc<dyn Store>);
    let state = state.with_blobs(blobs);
    runtime.spawn(state.keep_files(leftovers));
    runtime.spawn(state.work_on_vector_stores());
    let state = state.with_webhooks(webhooks(config));
    runtime.spawn(state.deliver_webhooks());
    runtime.spawn(state.end_abandoned_responses());
    let parallel = config.lines_at_once();
    let clients = config.batch_clients.get() as usize;
    runtime.spawn(state.work_on_batches(parallel, clients));
    Ok(state)
}

/// The scheme of the server's URL.
fn scheme(options: &ServerOptions) -> &'static str {
    if options.tls.is_some() {
        "https"
    } else {
        "http"
    }
}

/// Fails if other machines could reach the server and no key is required, unless the operator said
/// so.
fn refuse_to_be_open(
    config: &Config,
    requires_key: bool,
    address: SocketAddr,
) -> anyhow::Result<()> {
    if requires_key || address.ip().is_loopback() || config.require_key.is_some() {
        return Ok(());
    }
    anyhow::bail!(
        "other machines can reach {address}, and there is no API key; create one with `loggia keys create NAME`, or serve everybody with --require-key=false"
    );
}

/// Warns if other machines can reach the server without an API key.
fn warn_if_open(requires_key: bool, address: SocketAddr) {
    if !requires_key && !address.ip().is_loopback() {
        tracing::warn!(%address, "no API key is required, and this address can be reached from other machines");
    }
}

/// Returns the sender of webhooks. It may connect to the same addresses and ports as the fetching of
/// images.
fn webhooks(config: &Config) -> Arc<WebhookSender> {
    Arc::new(WebhookSender::new(config.images.limits()))
}

/// Returns the client for MCP servers. It may connect to the same addresses and ports as the
/// fetching of images.
fn mcp(config: &Config) -> Arc<HttpMcpClient> {
    let images = config.images.limits();
    Arc::new(HttpMcpClient::new(loggia_mcp::Limits {
        ports: images.ports,
        networks: images.networks,
        ..loggia_mcp::Limits::default()
    }))
}

/// The roster, wrapped from the inside out. The images are fetched once for all parallel calls of a
/// request.
pub(super) fn backend(roster: &Arc<Roster>, config: &Config) -> Arc<dyn Backend> {
    let emulating = Emulate::new(Arc::clone(roster) as Arc<dyn Backend>);
    Arc::new(FetchImages::new(
        Arc::new(emulating),
        config.images.limits(),
    ))
}

/// Listens on the first address of the host name that is available. The error names the flag of
/// another address.
async fn listen(on: &Listen, example: &str) -> anyhow::Result<TcpListener> {
    let failed = || format!("cannot listen on {on}; choose another address, for example {example}");
    let addresses = on.addresses().await.with_context(failed)?;
    TcpListener::bind(&*addresses).await.with_context(failed)
}

/// Builds all configured backends. A missing model is an error, unless `may_download` is set: then
/// it is downloaded first.
pub(super) async fn configured_backends(
    config: &Config,
    traces: Option<&Traces>,
    may_download: bool,
    runtime: &Handle,
) -> anyhow::Result<Backends> {
    let mut backends = Backends::of(config, traces, runtime)?;
    if may_download && let [(name, ModelError::NotHere(_, source))] = &backends.missing[..] {
        if config.names_no_backend() {
            eprintln!("loggia: no backend is configured; downloading the default model, {name}");
        } else {
            eprintln!("loggia: downloading {name}");
        }
        fetch(source, config).await.with_context(|| {
            format!("cannot download {name}; use another model or backend (loggia serve --help)")
        })?;
        backends = Backends::of(config, traces, runtime)?;
    }
    if let Some((_, error)) = backends.missing.into_iter().next() {
        return Err(error.into());
    }
    backends.parts.servers.resolve().await;
    Ok(Backends {
        missing: Vec::new(),
        ..backends
    })
}

async fn fetch(source: &str, config: &Config) -> anyhow::Result<()> {
    let source = Source::parse(source)?;
    let store = ModelStore::new(&config.data_dir);
    models::pull(&source, &store, Progress::on_stderr()).await?;
    Ok(())
}

/// Resolves at the first SIGTERM or Ctrl-C. A second Ctrl-C ends the program at once.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("stopping; running answers may finish, another Ctrl-C ends them now");
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    })
}
