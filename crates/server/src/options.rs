//! The server's limits, as plain values. The program reads them from its configuration.

use std::time::Duration;

use crate::{Keys, Live, Metrics, Origins, Tls, Traces};

/// The limits of the server, each with a default.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The number of threads that serve connections, each with its own runtime. The default is one
    /// per two cores: a thread serves some ten thousand requests a second, more threads wake up
    /// more often for the same work, and engines need the cores. 0: no thread; the runtime that
    /// calls [`run`](crate::run) serves.
    pub workers: usize,
    /// The largest number of open connections; others wait in the kernel's queue. The default is
    /// 4,096. At about 30 KiB a stream that is 120 MiB, and with one connection to a backend each
    /// it stays below the common limit of 65,536 file descriptors.
    pub max_connections: usize,
    /// The time for the head of a request, and the longest time that a connection may be idle. The
    /// default is 75 s: load balancers commonly close idle connections after 60 s, and the server
    /// should not close first.
    pub head_timeout: Duration,
    /// How long sent bytes may stay unacknowledged before the connection is closed, so that a
    /// client that stopped reading does not occupy an engine's slot. The default is 60 s. Linux
    /// only; other systems use their kernel's timeout.
    pub stall_timeout: Duration,
    /// How long `/readyz` waits for the backend. The default is 5 s.
    pub ready_timeout: Duration,
    /// How long running answers may continue after the server gets the signal to stop. The default
    /// is 30 s, as in Kubernetes.
    pub shutdown_timeout: Duration,
    /// How long one WebSocket connection may be used; its responses are then finished. The default is
    /// 60 minutes, as at OpenAI.
    pub websocket_timeout: Duration,
    /// How long a WebSocket connection may be without a frame while no response is made. The default
    /// is 10 minutes: agents keep one open while their user thinks.
    pub websocket_idle_timeout: Duration,
    /// The web pages that may use the API when it starts. The default is those of this machine.
    pub origins: Origins,
    /// The API keys. Without any, no key is required, which is the default.
    pub keys: Keys,
    /// The certificate. `None`: plain HTTP, which is the default.
    pub tls: Option<Tls>,
    /// The metrics for `/metrics`. `None`: nothing is counted, and there is no such route.
    pub metrics: Option<Metrics>,
    /// Whether the app has the route `/metrics`. A program turns it off to serve
    /// [`metrics_app`](crate::metrics_app) at an address of its own.
    pub metrics_route: bool,
    /// The running requests and figures for the console; see [`Live::keep`]. `None`: there is no
    /// console.
    pub live: Option<Live>,
    /// Records spans of requests for OpenTelemetry. `None`: there are none, which is the default.
    pub traces: Option<Traces>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().div_ceil(2)),
            max_connections: 4096,
            head_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_mins(1),
            ready_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(30),
            websocket_timeout: Duration::from_hours(1),
            websocket_idle_timeout: Duration::from_mins(10),
            origins: Origins::default(),
            keys: Keys::default(),
            tls: None,
            metrics: Some(Metrics::default()),
            metrics_route: true,
            live: Some(Live::default()),
            traces: None,
        }
    }
}
