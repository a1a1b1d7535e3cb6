//! [`Limits`] of a client.

use std::time::Duration;

use loggia_backend::fetch_images::Network;

/// The limits of a list and of a call, and the addresses where servers may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time limit for a list of tools, from the first name lookup. Default: 20 s.
    pub list_time: Duration,
    /// The time limit for a call. Default: 60 s.
    pub call_time: Duration,
    /// The maximum size of an answer in bytes. Default: 4 MiB.
    pub bytes: usize,
    /// The maximum number of tools of one server. Default: 128.
    pub tools: usize,
    /// The ports that public servers may have. Default: 80 and 443.
    pub ports: Vec<u16>,
    /// Networks that are not public and may be connected to, on every port. Default: none.
    pub networks: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            list_time: Duration::from_secs(20),
            call_time: Duration::from_mins(1),
            bytes: 4 << 20,
            tools: 128,
            ports: vec![80, 443],
            networks: Vec::new(),
        }
    }
}
