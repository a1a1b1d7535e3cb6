//! The trait [`Blobs`] keeps the contents of files, which are too large for a [`Store`](super::Store).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::StoreError;

/// The pieces of a content, in order. After an error there are no more.
pub type Pieces = BoxStream<'static, Result<Bytes, StoreError>>;

/// The location of a new content, and its writer.
pub type NewBlob = (String, Box<dyn BlobWriter>);

/// Places of contents, in pages. After an error there are no more.
pub type Leftovers = BoxStream<'static, Result<Vec<String>, StoreError>>;

/// The most places of a page of [`Leftovers`].
const PAGE: usize = 1000;

/// Returns these places in pages.
pub fn in_pages(places: Vec<String>) -> Leftovers {
    stream::iter(places).chunks(PAGE).map(Ok).boxed()
}

/// Keeps contents under names. A name is `files/ID` or `parts/UPLOAD/ID` with ids that the server
/// made, so it has only letters, digits, `-`, `_` and `/`.
pub trait Blobs: Send + Sync {
    /// Begins a new content.
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<NewBlob, StoreError>>;

    /// Reads a range of the bytes of a content.
    fn read<'a>(
        &'a self,
        place: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Pieces, StoreError>>;

    /// Deletes a content. A missing content is not an error.
    fn delete<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Returns the places of contents that belong to no object, or whose object has been stored long
    /// since: no server is going to store an object for them. It deletes contents that were never
    /// finished. It is called before this server writes anything, and now and then afterwards.
    fn leftovers(&self) -> BoxFuture<'_, Result<Leftovers, StoreError>>;
}

/// Writes a content. If the writer is dropped, nothing remains of the content.
pub trait BlobWriter: Send {
    /// Adds bytes at the end.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends the content. It is on the disk when this resolves to `Ok`.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// Returns the id of the object that a content belongs to: a file, or the upload of a part.
pub(crate) fn object_of(place: &str) -> &str {
    let id = place.split('/').nth(1).unwrap_or_default();
    id.split('.').next().unwrap_or_default()
}

/// Keeps contents in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    contents: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl MemoryBlobs {
    /// Returns the places of all contents.
    pub fn places(&self) -> Vec<String> {
        lock(&self.contents).keys().cloned().collect()
    }
}

fn lock(contents: &Mutex<HashMap<String, Bytes>>) -> MutexGuard<'_, HashMap<String, Bytes>> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

struct MemoryWriter {
    place: String,
    bytes: Vec<u8>,
    contents: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl BlobWriter for MemoryWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.bytes.extend_from_slice(&bytes);
        Box::pin(async { Ok(()) })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            lock(&self.contents).insert(self.place, self.bytes.into());
            Ok(())
        })
    }
}

impl Blobs for MemoryBlobs {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<NewBlob, StoreError>> {
        Box::pin(async move {
            let writer = MemoryWriter {
                place: name.to_owned(),
                bytes: Vec::new(),
                contents: Arc::clone(&self.contents),
            };
            Ok((name.to_owned(), Box::new(writer) as Box<dyn BlobWriter>))
        })
    }

    fn read<'a>(
        &'a self,
        place: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Pieces, StoreError>> {
        Box::pin(async move {
            let missing = || StoreError::Unavailable {
                cause: "a content is missing".to_owned(),
            };
            let contents = lock(&self.contents);
            let whole = contents.get(place).ok_or_else(missing)?;
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
            if at(range.end) > whole.len() || range.start > range.end {
                return Err(missing());
            }
            let piece = whole.slice(at(range.start)..at(range.end));
            Ok(stream::iter([Ok(piece)]).boxed())
        })
    }

    fn delete<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            lock(&self.contents).remove(place);
            Ok(())
        })
    }

    /// Returns all places: a test decides when it writes, and when this is called.
    fn leftovers(&self) -> BoxFuture<'_, Result<Leftovers, StoreError>> {
        Box::pin(async { Ok(in_pages(self.places())) })
    }
}
