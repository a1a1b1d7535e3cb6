//! Receives the file of a recording: a short one in memory, a longer one in a temporary file.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use loggia_backend::Content;

use super::wav;
use crate::ApiError;
use crate::door::temporary_file;

/// The bytes that are kept in memory, and written at once.
const IN_MEMORY: usize = 256 << 10;

/// How many recordings of the largest size the temporary files may hold together.
const LARGEST_AT_ONCE: u64 = 16;

/// The bytes of all temporary files. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordingBytes(Arc<AtomicU64>);

/// The bytes of one temporary file, which count until this is dropped.
#[derive(Debug)]
pub(crate) struct CountedBytes {
    all: RecordingBytes,
    bytes: u64,
    most: u64,
}

impl CountedBytes {
    /// Creates the count of a new file. All files together may have the bytes of `LARGEST_AT_ONCE`
    /// files of the size `largest`.
    pub(super) fn new(all: &RecordingBytes, largest: u64) -> Self {
        Self {
            all: all.clone(),
            bytes: 0,
            most: largest.saturating_mul(LARGEST_AT_ONCE),
        }
    }

    fn add(&mut self, bytes: u64) -> Result<(), ApiError> {
        self.bytes += bytes;
        let all = self.all.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all <= self.most {
            return Ok(());
        }
        let message = "The server is receiving too many recordings; try again later.";
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("too_many_recordings"))
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file, as far as it has been received.
pub(super) struct Receiving {
    counted: CountedBytes,
    /// The bytes that are not in the temporary file yet.
    buffer: BytesMut,
    file: Option<File>,
    length: u64,
    /// The beginning of the file, in which a WAV file tells its length.
    beginning: Bytes,
}

impl Receiving {
    pub(super) fn new(counted: CountedBytes) -> Self {
        Self {
            counted,
            buffer: BytesMut::new(),
            file: None,
            length: 0,
            beginning: Bytes::new(),
        }
    }

    /// Returns the number of bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds a piece of the file.
    pub(super) async fn push(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        self.length += piece.len() as u64;
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() >= IN_MEMORY {
            self.write().await?;
        }
        Ok(())
    }

    /// Returns the content, after its last piece.
    ///
    /// # Errors
    /// Fails for an empty file, and for a WAV file that announces more sound than it has.
    pub(super) async fn finish(mut self) -> Result<(Content, CountedBytes), ApiError> {
        if self.length == 0 {
            let message = "Invalid 'file': it is empty.";
            return Err(ApiError::invalid("file", "empty_file", message));
        }
        let content = if self.file.is_some() {
            self.write().await?;
            self.file
                .take()
                .map(|file| Content::in_file(file, self.length))
        } else {
            self.beginning = self.buffer.split().freeze();
            None
        };
        if let Some(announced) = wav::announces_more(&self.beginning, self.length) {
            let message = format!(
                "Invalid 'file': its head announces {announced} bytes of sound, but the file has {} bytes.",
                self.length
            );
            return Err(ApiError::invalid("file", "invalid_file", message));
        }
        let content = content.unwrap_or_else(|| self.beginning.into());
        Ok((content, self.counted))
    }

    /// Writes the bytes that arrived to the temporary file.
    async fn write(&mut self) -> Result<(), ApiError> {
        let bytes = self.buffer.split().freeze();
        if self.file.is_none() {
            self.beginning = bytes.clone();
        }
        self.counted.add(bytes.len() as u64)?;
        let file = self.file.take();
        self.file = Some(temporary_file::append(file, bytes, "recording").await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(
        all: &RecordingBytes,
        bytes: &[u8],
    ) -> Result<(Content, CountedBytes), ApiError> {
        let mut receiving = Receiving::new(CountedBytes::new(all, 1 << 20));
        for piece in bytes.chunks(100_000) {
            receiving.push(piece).await?;
        }
        receiving.finish().await
    }

    #[tokio::test]
    async fn a_long_file_is_kept_on_the_disk_and_counted_until_it_is_dropped() {
        let all = RecordingBytes::default();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (content, counted) = received(&all, &bytes).await.unwrap();
        assert_eq!(content.whole().await.unwrap(), bytes);
        assert_eq!(all.0.load(Ordering::Relaxed), 1_000_000);
        drop(counted);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
        let (short, counted) = received(&all, &bytes[..1000]).await.unwrap();
        assert_eq!(short.whole().await.unwrap(), bytes[..1000]);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
        drop(counted);
    }

    #[tokio::test]
    async fn all_files_together_are_limited() {
        let all = RecordingBytes::default();
        let bytes = vec![1; 1 << 20];
        let mut kept = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            kept.push(received(&all, &bytes).await.unwrap());
        }
        let error = received(&all, &bytes).await.unwrap_err();
        assert_eq!(error.label(), "too_many_recordings");
        kept.pop();
        assert!(received(&all, &bytes).await.is_ok());
    }

    #[tokio::test]
    async fn a_wav_file_that_lies_about_its_length_is_refused() {
        let all = RecordingBytes::default();
        for sound in [vec![0; 1000], vec![0; 600_000]] {
            let honest = u32::try_from(sound.len()).unwrap();
            let file = wav::tests::file(honest, &sound);
            assert!(received(&all, &file).await.is_ok());
            let file = wav::tests::file(honest + 1_000_000_000, &sound);
            let error = received(&all, &file).await.unwrap_err();
            assert_eq!(error.label(), "invalid_file");
        }
        let error = received(&all, b"").await.unwrap_err();
        assert_eq!(error.label(), "empty_file");
    }
}
