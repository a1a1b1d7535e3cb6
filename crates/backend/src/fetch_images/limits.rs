//! Limits for the images of one request: sizes, times and allowed networks.

use std::time::Duration;

use super::{ImageKind, Network};

/// Limits for the images of one request: sizes, times and allowed networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of one image in bytes, decoded, whether fetched or sent as a `data:` URL.
    /// Default: 10 MiB, twice the size of a phone's photo.
    pub bytes: usize,
    /// The maximum size of all images in bytes, decoded. An image used twice counts twice. Default:
    /// 32 MiB, the limit for the body of a request.
    pub total_bytes: usize,
    /// The maximum number of different URLs. Default: 16.
    pub fetches: usize,
    /// The maximum number of parallel fetches. Default: 4.
    pub side_by_side: usize,
    /// The time limit for all fetches together, from the first name lookup to the last byte.
    /// Default: 10 s.
    pub time: Duration,
    /// The maximum number of redirects per image. Default: 3.
    pub redirects: usize,
    /// The allowed types of images, detected from their first bytes. Default: all known types.
    pub kinds: Vec<ImageKind>,
    /// The allowed ports. Default: 80 and 443.
    pub ports: Vec<u16>,
    /// Allowed networks that are not public ([`is_public`](super::is_public)). Default: none.
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
