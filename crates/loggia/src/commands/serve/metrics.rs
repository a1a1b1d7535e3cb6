//! `/metrics` at an address of its own, for `metrics_listen`.

use loggia_server::{Metrics, ServerOptions, metrics_app};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::{listen, print_line};
use crate::backends::Parts;
use crate::config::Config;

/// The maximum number of connections to this address. A scraper needs one.
const MOST_CONNECTIONS: usize = 16;

/// Listens on the address of the metrics, if they have one.
pub(super) async fn listener(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.metrics_listen.as_ref().filter(|_| config.metrics.0) else {
        return Ok(None);
    };
    let listener = listen(address, "--metrics-listen 127.0.0.1:9464").await?;
    let address = listener.local_addr()?;
    print_line(&format!("loggia: metrics at http://{address}/metrics"));
    Ok(Some(listener))
}

/// Adds the metrics of the backends, and serves all metrics at this address, if there is one.
pub(super) fn start(
    metrics: &Metrics,
    parts: &Parts,
    listener: Option<TcpListener>,
    runtime: &Handle,
) {
    let parts = parts.clone();
    metrics.read_with(move || parts.readings());
    if let Some(listener) = listener {
        runtime.spawn(serve(listener, metrics.clone()));
    }
}

/// Serves the metrics until the program ends.
async fn serve(listener: TcpListener, metrics: Metrics) {
    let options = ServerOptions {
        // On the program's own runtime.
        workers: 0,
        max_connections: MOST_CONNECTIONS,
        metrics: None,
        live: None,
        ..ServerOptions::default()
    };
    let never = std::future::pending();
    let served = loggia_server::run(listener, metrics_app(metrics), never, &options).await;
    if let Err(error) = served {
        tracing::error!(%error, "the listener of the metrics failed");
    }
}
