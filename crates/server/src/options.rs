//! What the server allows, and for how long. Plain values: where they come from is the program's
//! affair.

use std::time::Duration;

use crate::{Keys, Origins};

/// The server's limits.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How many threads serve, each with a runtime of its own. One for every two cores: a thread
    /// serves some ten thousand requests a second, two that share the work wake up twice as often
    /// for it, and engines have a use for the cores. 0: none; the runtime that calls
    /// [`run`](crate::run) serves.
    pub workers: usize,
    /// The most connections open at once; past that, new ones wait in the kernel's queue. 4,096: at
    /// some 30 KiB a stream they stay near 120 MiB, and under the 65,536 file descriptors that
    /// services are commonly given, one more for each upstream included.
    pub max_connections: usize,
    /// How long a client may take over the head of a request, the wait for it on an idle connection
    /// included. 75 s: longer than the 60 s after which common load balancers drop an idle
    /// connection, so that it is they who close it.
    pub head_timeout: Duration,
    /// How long a client may leave bytes of its answer untaken before the connection is cut, so
    /// that one that stopped reading holds no slot of an engine for ever. 60 s. Linux only;
    /// elsewhere the kernel's own patience holds.
    pub stall_timeout: Duration,
    /// How long `/readyz` waits for the backend's word. 5 s.
    pub ready_timeout: Duration,
    /// How long answers under way may go on once the server is told to stop. 30 s, as long as
    /// Kubernetes waits.
    pub shutdown_timeout: Duration,
    /// The pages that may use the API from a browser. Those of this machine.
    pub origins: Origins,
    /// The keys that the API asks for. None: it is open to everybody who reaches it.
    pub keys: Keys,
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
            origins: Origins::default(),
            keys: Keys::default(),
        }
    }
}
