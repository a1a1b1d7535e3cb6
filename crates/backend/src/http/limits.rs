//! How long each phase of a call may take.

use std::time::Duration;

/// How long each phase of a call may take. There is no limit on the whole: an answer may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To have a connection: name looked up, TCP and TLS agreed. 5 s by default; on one network it
    /// takes milliseconds.
    pub connect: Duration,
    /// To begin an answer, and again to send the first byte of its body. 10 minutes by default: an
    /// engine loads a model of many gigabytes, waits for its turn and reads the prompt before the
    /// first (Ollama) or between the two (vLLM).
    pub headers: Duration,
    /// Between any two pieces of a body after the first. 2 minutes by default: far above the
    /// slowest token, far below a client's patience.
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
