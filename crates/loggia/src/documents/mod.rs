//! Documents that models cannot read themselves: fetches them, and reads the text of PDFs, or shows
//! their pages as images.
//!
//! `process.rs` starts a process for each PDF, which runs `pdf.rs`. `layout.rs` puts the glyphs of a
//! page together as text, and `pages.rs` renders pages.

mod failure;
mod layout;
mod pages;
mod pdf;
mod process;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use loggia_api::{DocumentError, Documents};
use loggia_backend::fetch_images::{DocumentFetcher, Limits};
use tokio::sync::Semaphore;

pub(crate) use pdf::{PdfLimits, run as read_pdf};

/// How many PDFs are read at once. More wait.
const AT_ONCE: usize = 2;

/// Fetches documents by the rules of images, and reads PDFs.
pub(crate) struct ReadDocuments {
    fetcher: DocumentFetcher,
    reading: Arc<Semaphore>,
}

impl ReadDocuments {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            fetcher: DocumentFetcher::new(limits),
            reading: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Returns a reader with other limits. Both together read at most [`AT_ONCE`] PDFs.
    pub(crate) fn with_limits(&self, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            fetcher: DocumentFetcher::new(limits),
            reading: Arc::clone(&self.reading),
        })
    }
}

impl Documents for ReadDocuments {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Bytes, DocumentError>> {
        Box::pin(async move {
            let fetched = self.fetcher.fetch(url).await;
            fetched.map(Bytes::from).map_err(DocumentError::new)
        })
    }

    fn pdf_text(&self, pdf: Bytes) -> BoxFuture<'_, Result<Option<String>, DocumentError>> {
        Box::pin(async move {
            // The semaphore is never closed.
            let _place = self.reading.acquire().await;
            process::text(pdf).await.map_err(DocumentError::new)
        })
    }

    fn pdf_pages(
        &self,
        pdf: Bytes,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, DocumentError>> {
        Box::pin(async move {
            let _place = self.reading.acquire().await;
            let pages = process::pages(pdf, most).await;
            pages.map_err(DocumentError::new)
        })
    }
}
