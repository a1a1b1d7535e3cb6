//! Time limits for the phases of a call.

use std::time::Duration;

/// Time limits for the phases of a call. There is no limit for the whole call, because an answer
/// may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The limit for connecting: name lookup, TCP and TLS. Default: 5 s. Within one network it
    /// takes milliseconds.
    pub connect: Duration,
    /// The limit for the head of the response, and again for the first byte of its body. Default:
    /// 10 minutes. An engine loads a model of many gigabytes, waits in its queue and processes the
    /// prompt before the head (Ollama) or between head and body (vLLM).
    pub headers: Duration,
    /// The limit between two pieces of the body after the first. Default: 2 minutes, far above the
    /// slowest token and far below the patience of a client.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_mins(10),
            idle: Duration::from_mins(2),
        }
    }
}
