//! `loggia serve`: builds the backends and the app, and serves until it is told to stop.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use loggia_api::{Caller, Policy};
use loggia_backend::Backend;
use loggia_backend::emulate::Emulate;
use loggia_backend::fetch_images::FetchImages;
use loggia_server::{AppState, KeyDigest, Keys, Origins, ServerOptions, app};
use loggia_wire::openai::Model;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::backends::{Backends, ModelError, threads};
use crate::config::{self, Config, Listen};
use crate::models::{self, Progress, Source, Store};
use crate::state;

/// Serves until SIGTERM or Ctrl-C. Running answers may then finish within `shutdown_timeout`.
pub(crate) async fn serve(config: &Config, runtime: &Handle) -> anyhow::Result<()> {
    let (mut policy, options) = (policy(config), options(config)?);
    let listener = listen(&config.listen).await?;
    let address = listener.local_addr()?;
    // Without API keys, only clients on this machine may delete models.
    policy.deletes_without_key = address.ip().is_loopback();
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
    let backends = everything(config, config.names_no_backend(), runtime).await?;
    let described = Described::of(&backends, config);
    // Signals are handled from here on. Before, nothing needs to be shut down, and a signal may end
    // the process as usual.
    let shutdown = told_to_stop()?;
    let backend = backend(&backends, config);
    let mut state = AppState::new(backend.clone(), policy, options.clone());
    if let Some(store) = state::open(config).await? {
        runtime.spawn(state::clean(Arc::clone(&store)));
        state = state.with_store(store);
    }
    let app = app(state);
    say(&format!("loggia: listening on http://{address}"));
    let asks_for_a_key = !config.key.is_empty();
    if !asks_for_a_key && !address.ip().is_loopback() {
        tracing::warn!(%address, "no API key is required, and this address can be reached from other machines; configure keys with LOGGIA_KEYS or [[key]] tables");
    }
    // Runs beside the server, and its tasks end with it.
    let beside = async {
        backends.load.await?;
        example(&*backend, &described, reachable(address), asks_for_a_key).await;
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        served = loggia_server::run(listener, app, shutdown, &options) => served.context("the listener failed"),
        failed = beside => failed,
    }
}

/// A server that runs beside other work of this process.
pub(crate) struct Beside {
    pub(crate) address: SocketAddr,
    /// The names of the embedded models.
    pub(crate) embedded: Vec<String>,
}

/// Serves for this process only: on a free port of the loopback interface, with `key` as the only
/// API key, until the process ends. With `fetches`, it downloads a missing model first.
pub(crate) async fn serve_beside(
    config: &Config,
    key: &str,
    fetches: bool,
    runtime: &Handle,
) -> anyhow::Result<Beside> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on a free port")?;
    let address = listener.local_addr()?;
    let (policy, options) = (policy(config), options(config)?);
    let keys = Keys::new([(
        KeyDigest::of(key),
        Caller {
            name: "this process".into(),
            strictness: None,
            models: None,
            may_delete_models: false,
        },
    )]);
    let options = ServerOptions {
        keys,
        workers: 1,
        ..options
    };
    let backends = everything(config, fetches, runtime).await?;
    let embedded = backends.embedded.clone();
    let app = app(AppState::new(
        backend(&backends, config),
        policy,
        options.clone(),
    ));
    let load = backends.load;
    runtime.spawn(async move {
        if let Err(error) = load.await {
            tracing::error!("{error:#}");
        }
    });
    runtime.spawn(async move {
        loggia_server::run(listener, app, std::future::pending(), &options).await
    });
    Ok(Beside { address, embedded })
}

/// The roster, wrapped from the inside out. The images are fetched once for all parallel calls of a
/// request.
fn backend(backends: &Backends, config: &Config) -> Arc<dyn Backend> {
    let emulating = Emulate::new(backends.roster.clone());
    Arc::new(FetchImages::new(
        Arc::new(emulating),
        config.images.limits(),
    ))
}

/// Listens on the first address of the host name that is available.
async fn listen(on: &Listen) -> anyhow::Result<TcpListener> {
    let failed = || {
        format!(
            "cannot listen on {on}; choose another address, for example --listen 127.0.0.1:8080"
        )
    };
    let addresses = on.addresses().await.with_context(failed)?;
    TcpListener::bind(&*addresses).await.with_context(failed)
}

/// All configured backends. A missing model is an error, or is downloaded first with `fetches`.
async fn everything(config: &Config, fetches: bool, runtime: &Handle) -> anyhow::Result<Backends> {
    let mut backends = Backends::of(config, runtime)?;
    if fetches && let [(name, ModelError::NotHere(_, source))] = &backends.missing[..] {
        if config.names_no_backend() {
            eprintln!("loggia: no backend is configured; downloading the default model, {name}");
        } else {
            eprintln!("loggia: downloading {name}");
        }
        fetch(source, config).await.with_context(|| {
            format!("cannot download {name}; use another model or backend (loggia serve --help)")
        })?;
        backends = Backends::of(config, runtime)?;
    }
    match backends.missing.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => Ok(Backends {
            missing: Vec::new(),
            ..backends
        }),
    }
}

async fn fetch(source: &str, config: &Config) -> anyhow::Result<()> {
    let source = Source::parse(source)?;
    let store = Store::new(&config.data_dir);
    models::pull(&source, &store, Progress::on_stderr()).await?;
    Ok(())
}

fn policy(config: &Config) -> Policy {
    let models = config
        .per_model
        .0
        .iter()
        .map(|(model, its)| (model.clone(), its.policy()));
    Policy {
        strictness: config.strictness(),
        profile: (*config.sampling_profile).into(),
        models: models.collect(),
        body_limit: config.body_limit.length(),
        body_within: config.body_timeout.0,
        heartbeat_after: Some(config.heartbeat_after.0).filter(|after| !after.is_zero()),
        heartbeat_every: config.heartbeat_every.0,
        ceilings: config.ceilings.limits(),
        deletes_without_key: false,
    }
}

fn options(config: &Config) -> anyhow::Result<ServerOptions> {
    let origins = match &*config.cors_origins {
        Some(origins) => Origins::parse(origins).context("cors_origins")?,
        None => Origins::default(),
    };
    let of_this_machine = ServerOptions::default().workers;
    Ok(ServerOptions {
        workers: config
            .workers
            .map_or(of_this_machine, |workers| workers.get() as usize),
        head_timeout: config.head_timeout.0,
        stall_timeout: config.stall_timeout.0,
        ready_timeout: config.ready_timeout.0,
        max_connections: config.max_connections.get() as usize,
        shutdown_timeout: config.shutdown_timeout.0,
        origins,
        keys: config::keys(&config.key),
    })
}

/// Resolves at the first SIGTERM or Ctrl-C. A second Ctrl-C ends the program at once.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
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

/// Prints what is served, and a curl command to try: with a model that can chat, if there is one.
async fn example(
    backend: &dyn Backend,
    described: &Described,
    address: SocketAddr,
    asks_for_a_key: bool,
) {
    let models = async {
        let models = backend.models().await.ok()?;
        let to_try = a_model_to_try(backend, &models).await?;
        Some((models, to_try))
    };
    let Ok(Some((models, model))) = tokio::time::timeout(Duration::from_secs(5), models).await
    else {
        say("loggia: no model is available yet; `loggia check` with the same flags shows why");
        return;
    };
    say(&format!(
        "loggia: serving {} on http://{address}",
        described.models(&models)
    ));
    say(&format!(
        "try it:\n{}",
        curl(address, &model, asks_for_a_key)
    ));
}

/// What the start message tells of the models: the embedded ones with their settings, and the
/// number of others.
struct Described {
    embedded: Vec<String>,
    parallel: u32,
    threads: i32,
}

impl Described {
    fn of(backends: &Backends, config: &Config) -> Self {
        Self {
            embedded: backends.embedded.clone(),
            parallel: config.parallel.get(),
            threads: threads(config),
        }
    }

    fn models(&self, models: &[Model]) -> String {
        // The embedded models with their contexts; the number of all others.
        let own: Vec<&Model> = models
            .iter()
            .filter(|model| self.embedded.contains(&model.id))
            .collect();
        let is_alias = |model: &Model| model.extra.contains_key("alias_of");
        let others = models
            .iter()
            .filter(|model| !self.embedded.contains(&model.id) && !is_alias(model))
            .count();
        let mut parts: Vec<String> = own.iter().map(|model| with_context(model)).collect();
        if !own.is_empty() {
            let Self {
                parallel, threads, ..
            } = self;
            let last = parts.pop().unwrap_or_default();
            parts.push(format!(
                "{last}, {parallel} requests at once, {threads} thread{}",
                if *threads == 1 { "" } else { "s" }
            ));
        }
        if others > 0 {
            parts.push(format!(
                "{others} model{} on other servers",
                if others == 1 { "" } else { "s" }
            ));
        }
        parts.join("; ")
    }
}

/// An embedded model, with its context.
fn with_context(model: &Model) -> String {
    match model.extra.get("context_length") {
        Some(context) => format!("{}: context {context} tokens", model.id),
        None => model.id.clone(),
    }
}

/// A model for the curl command, by what it can do.
enum ToTry {
    Chat(String),
    Embeddings(String),
}

/// Whether a model can chat according to its `capabilities`. A model without them is assumed to.
pub(crate) fn holds_chats(capabilities: Option<&Value>) -> bool {
    let capabilities = capabilities.and_then(Value::as_array);
    capabilities.is_none_or(|can| can.is_empty() || can.iter().any(|can| can == "completion"))
}

/// The first model that can chat, else the first that makes embeddings. Ollama lists both.
async fn a_model_to_try(backend: &dyn Backend, models: &[Model]) -> Option<ToTry> {
    let mut otherwise = models.first().map(|model| ToTry::Chat(model.id.clone()));
    for model in models {
        let Ok(card) = backend.model(&model.id).await else {
            continue;
        };
        let capabilities = card.extra.get("capabilities");
        if holds_chats(capabilities) {
            return Some(ToTry::Chat(model.id.clone()));
        }
        let embeds = capabilities
            .and_then(Value::as_array)
            .is_some_and(|can| can.iter().any(|can| can == "embedding"));
        if embeds && !matches!(otherwise, Some(ToTry::Embeddings(_))) {
            otherwise = Some(ToTry::Embeddings(model.id.clone()));
        }
    }
    otherwise
}

/// Prints to standard output, and ignores a reader that has left.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn curl(address: SocketAddr, model: &ToTry, asks_for_a_key: bool) -> String {
    let key = if asks_for_a_key {
        r#" -H "authorization: Bearer $KEY""#
    } else {
        ""
    };
    let (path, model, rest) = match model {
        // Streamed and with a limit: without one, a small model may write until its context is
        // full.
        ToTry::Chat(model) => (
            "chat/completions",
            model,
            r#""stream":true,"max_tokens":200,"messages":[{"role":"user","content":"Say hello."}]"#,
        ),
        ToTry::Embeddings(model) => ("embeddings", model, r#""input":"Say hello.""#),
    };
    let body = format!(r#"{{"model":{},{rest}}}"#, Value::from(model.as_str()));
    // A single quote in a model's name must be escaped for the shell.
    let body = body.replace('\'', r"'\''");
    format!(
        "  curl -N http://{address}/v1/{path} -H 'content-type: application/json'{key} -d '{body}'"
    )
}

/// An address that clients on this machine can connect to, also if the server listens on every
/// interface.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let local: IpAddr = if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(local);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_try_survives_a_shell_whatever_the_models_name() {
        let address = "127.0.0.1:11435".parse().unwrap();
        let line = curl(address, &ToTry::Chat("it's:latest".to_owned()), false);
        assert!(
            line.contains(r#"-d '{"model":"it'\''s:latest","stream":true,"max_tokens":200,"#)
                && !line.contains("authorization"),
            "{line}"
        );
        let line = curl(address, &ToTry::Embeddings("m".to_owned()), true);
        assert!(
            line.contains(r#" -H "authorization: Bearer $KEY" -d '{"model":"m","input":"#),
            "{line}"
        );
        assert!(line.contains("/v1/embeddings "), "{line}");
    }

    #[test]
    fn the_programs_defaults_are_those_of_its_libraries() {
        let home = |name: &str| (name == "HOME").then(|| "/home/someone".to_owned());
        let config = Config::load(&config::Flags::default(), &home).unwrap();
        assert_eq!(
            format!("{:?}", policy(&config)),
            format!("{:?}", Policy::default())
        );
        assert_eq!(
            format!("{:?}", options(&config).unwrap()),
            format!("{:?}", ServerOptions::default())
        );
        assert_eq!(
            config.images.limits(),
            loggia_backend::fetch_images::Limits::default()
        );
    }

    #[test]
    fn what_listens_everywhere_is_found_on_this_machine() {
        let shown = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(shown("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(shown("[::]:80"), "[::1]:80");
        assert_eq!(shown("10.0.0.7:80"), "10.0.0.7:80");
    }
}
