//! What the images of one request may cost, and where they may come from.

use std::time::Duration;

use super::{ImageKind, Network};

/// What the images of one request may cost, and where they may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one image, decoded, fetched or sent as `data:` URL. 10 MiB by default: twice what a
    /// phone's camera makes.
    pub bytes: usize,
    /// Bytes of all images, decoded; one that is used twice counts twice. 32 MiB by default, as
    /// much as the body of a request may have.
    pub total_bytes: usize,
    /// Different URLs to fetch. 16 by default.
    pub fetches: usize,
    /// Fetches at one time. 4 by default.
    pub side_by_side: usize,
    /// For all fetches together, from the look-up of the first name to the last byte. 10 s by
    /// default.
    pub time: Duration,
    /// Redirects that are followed for one image. 3 by default.
    pub redirects: usize,
    /// What may be fetched; an image's first bytes say what it is. All that are known by default.
    pub kinds: Vec<ImageKind>,
    /// Ports that may be connected to. 80 and 443 by default.
    pub ports: Vec<u16>,
    /// Networks that may be connected to although they are not public
    /// ([`is_public`](super::is_public)). None by default.
    pub networks: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 10 << 20,
            total_bytes: 32 << 20,
            fetches: 16,
            side_by_side: 4,
            time: Duration::from_secs(10),
            redirects: 3,
            kinds: ImageKind::ALL.to_vec(),
            ports: vec![80, 443],
            networks: Vec::new(),
        }
    }
}
