//! Encrypted contents: chunks of one size, each sealed for its place and number, so that a range
//! can be read alone and no chunk can be moved. The row of the file says how long the content is,
//! so a content that was cut short is noticed.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use loggia_api::store::StoreError;
use loggia_api::store::blobs::{BlobWriter, Pieces};
use loggia_seal::Keys;
use object_store::ObjectStore;
use object_store::path::Path;

use super::pieces;
use crate::sealing::Sealing;

/// How the place of an encrypted content ends.
pub(super) const ENDING: &str = ".sealed";

/// The bytes of a chunk before it is sealed.
const CHUNK: usize = 64 << 10;

/// The place of a new content.
pub(super) fn place(sealing: &Sealing, name: &str) -> String {
    match sealing.encrypting() {
        Some(_) => format!("{name}{ENDING}"),
        None => name.to_owned(),
    }
}

/// The writer of the content of such a place.
pub(super) fn writer(
    sealing: &Sealing,
    inner: impl BlobWriter + 'static,
    place: &str,
) -> Box<dyn BlobWriter> {
    match sealing.encrypting() {
        Some(keys) => Box::new(SealedWriter::new(inner, Arc::clone(keys), place)),
        None => Box::new(inner),
    }
}

/// The context that a chunk is sealed with.
fn purpose(place: &str, number: u64) -> String {
    format!("store/content/{place}/{number}")
}

/// Seals a content chunk by chunk.
struct SealedWriter<W> {
    inner: W,
    keys: Arc<Keys>,
    place: String,
    number: u64,
    waiting: BytesMut,
}

impl<W: BlobWriter> SealedWriter<W> {
    fn new(inner: W, keys: Arc<Keys>, place: &str) -> Self {
        Self {
            inner,
            keys,
            place: place.to_owned(),
            number: 0,
            waiting: BytesMut::new(),
        }
    }

    async fn seal(&mut self, length: usize) -> Result<(), StoreError> {
        let chunk = self.waiting.split_to(length);
        let purpose = purpose(&self.place, self.number);
        self.number += 1;
        let sealed = self.keys.seal_bytes(&purpose, &chunk);
        self.inner.write(sealed.into()).await
    }
}

impl<W: BlobWriter + 'static> BlobWriter for SealedWriter<W> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.waiting.extend_from_slice(&bytes);
        Box::pin(async move {
            while self.waiting.len() >= CHUNK {
                self.seal(CHUNK).await?;
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            if !self.waiting.is_empty() {
                self.seal(self.waiting.len()).await?;
            }
            Box::new(self.inner).finish().await
        })
    }
}

/// Reads a range of the bytes before they were sealed.
pub(super) async fn read(
    objects: Arc<dyn ObjectStore>,
    path: Path,
    keys: Option<Arc<Keys>>,
    place: String,
    range: Range<u64>,
) -> Result<Pieces, StoreError> {
    let keys = keys.ok_or_else(|| unreadable("there are no keys"))?;
    // The growth of a chunk does not depend on its content.
    let grown = CHUNK + keys.seal_bytes("", b"").len();
    let chunk = CHUNK as u64;
    let numbers = range.start / chunk..range.end.div_ceil(chunk);
    let at = |number: u64| number * grown as u64;
    let sealed = pieces(&*objects, &path, at(numbers.start)..at(numbers.end)).await?;
    let chunks = Chunks {
        sealed,
        buffer: BytesMut::new(),
        grown,
    };
    let opened = chunks.into_stream().zip(stream::iter(numbers));
    let opened = opened.map(move |(sealed, number)| {
        let opened = keys.open_bytes(&purpose(&place, number), &sealed?);
        let opened = opened.map_err(|error| unreadable(&error.to_string()))?;
        let offset = number * chunk;
        let within = |at: u64| {
            let at = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            at.min(opened.len())
        };
        let (start, end) = (within(range.start), within(range.end));
        Ok(Bytes::from(opened).slice(start..end))
    });
    Ok(opened.boxed())
}

/// Cuts a stream into sealed chunks.
struct Chunks {
    sealed: Pieces,
    buffer: BytesMut,
    /// The length of a chunk after it was sealed.
    grown: usize,
}

impl Chunks {
    fn into_stream(self) -> Pieces {
        stream::try_unfold(self, |mut chunks| async move {
            while chunks.buffer.len() < chunks.grown {
                match chunks.sealed.try_next().await? {
                    Some(piece) => chunks.buffer.extend_from_slice(&piece),
                    None => break,
                }
            }
            let length = chunks.buffer.len().min(chunks.grown);
            if length == 0 {
                return Ok(None);
            }
            let chunk = chunks.buffer.split_to(length).freeze();
            Ok(Some((chunk, chunks)))
        })
        .boxed()
    }
}

fn unreadable(cause: &str) -> StoreError {
    StoreError::Unavailable {
        cause: format!("an encrypted file cannot be decrypted: {cause}"),
    }
}
