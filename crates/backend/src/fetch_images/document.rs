//! [`DocumentFetcher`]: fetches documents by the rules of images.

use std::sync::Arc;

use tokio::time::Instant;

use super::Limits;
use super::connect::{Resolve, SystemResolver};
use super::fetch::{Allowance, Fetcher};
use super::target::Target;

/// The media types of documents.
const DOCUMENTS: &str = "application/pdf, text/*;q=0.9, */*;q=0.5";

/// Fetches documents by their URLs: with the checks of addresses, ports, redirects and times that
/// images have, and with their limit for all bytes of a request.
pub struct DocumentFetcher {
    fetcher: Fetcher,
}

impl DocumentFetcher {
    /// Creates a fetcher that uses the resolver of the operating system.
    pub fn new(limits: Limits) -> Self {
        Self::resolving(limits, Arc::new(SystemResolver))
    }

    /// Creates a fetcher that uses another resolver. Its addresses are checked too.
    pub fn resolving(limits: Limits, resolver: Arc<dyn Resolve>) -> Self {
        let bytes = limits.total_bytes;
        let limits = Limits { bytes, ..limits };
        Self {
            fetcher: Fetcher::new(limits, resolver),
        }
    }

    /// Returns the content of a document.
    ///
    /// # Errors
    /// Returns the reason in words for the client. It contains no address or text of the other
    /// server.
    pub async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        let limits = self.fetcher.limits();
        let target = Target::parse(url, limits).map_err(|refusal| refusal.of_document())?;
        let allowance = Allowance::new(limits.bytes, Instant::now() + limits.time);
        let fetched = self
            .fetcher
            .content(&target, 1, &allowance, DOCUMENTS)
            .await;
        fetched.map_err(|refusal| {
            let reason = refusal.of_document();
            format!("`{}` cannot be fetched: {reason}", target.host())
        })
    }
}
