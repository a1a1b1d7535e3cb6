//! A server for this process only: `loggia chat` starts one if no server runs, and `loggia bench`
//! one to measure it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use loggia_api::Caller;
use loggia_server::{AppState, KeyDigest, Keys, ServerOptions, app};
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::options::{options, policy};
use super::{backend, configured_backends};
use crate::config::Config;

/// The length of the API key of such a server: about 190 bits.
const KEY_LENGTH: usize = 32;

/// A server that runs inside this process, in addition to its other work.
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    /// The names of the embedded models.
    pub(crate) embedded: Vec<String>,
}

/// Serves for this process only: on a free port of the loopback interface, with `key` as the only
/// API key, until the process ends. With `may_download`, it downloads a missing model first.
pub(crate) async fn start_own_server(
    config: &Config,
    key: &str,
    may_download: bool,
    runtime: &Handle,
) -> anyhow::Result<OwnServer> {
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
            may_have_priority: false,
        },
    )]);
    let options = ServerOptions {
        keys,
        workers: 1,
        tls: None,
        ..options
    };
    let backends = configured_backends(config, None, may_download, runtime).await?;
    let embedded = backends.embedded.clone();
    let app = app(AppState::new(
        backend(&backends.roster, config),
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
    Ok(OwnServer { address, embedded })
}

/// An API key that only this process knows.
pub(crate) fn random_key() -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(KEY_LENGTH)
        .map(char::from)
        .collect()
}
