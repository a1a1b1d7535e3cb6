//! [`Content`]: bytes of a client's file, in memory or in a file, that are read as they are sent.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;

/// The bytes that are read from a file at once.
const PIECE: usize = 64 << 10;

/// The content of a file. It can be read several times, because a call may be sent to one node
/// after another. Clones share it.
#[derive(Clone)]
pub struct Content {
    bytes: Place,
    length: u64,
}

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    File(Arc<Mutex<File>>),
}

impl Content {
    /// Creates a content from the first `length` bytes of a file. Nothing else may read or write the
    /// file.
    pub fn in_file(file: File, length: u64) -> Self {
        Self {
            bytes: Place::File(Arc::new(Mutex::new(file))),
            length,
        }
    }

    /// Returns the number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns all bytes, in pieces.
    pub fn pieces(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let (file, length) = match &self.bytes {
            Place::Memory(bytes) => {
                let bytes = bytes.clone();
                return futures_util::stream::once(std::future::ready(Ok(bytes))).boxed();
            }
            Place::File(file) => (Arc::clone(file), self.length),
        };
        let pieces = futures_util::stream::try_unfold(0, move |at| {
            let file = Arc::clone(&file);
            async move {
                if at >= length {
                    return Ok(None);
                }
                let reading = tokio::task::spawn_blocking(move || piece(&file, at, length));
                let piece = reading.await.map_err(io::Error::other)??;
                let next = at + piece.len() as u64;
                Ok(Some((piece, next)))
            }
        });
        pieces.boxed()
    }

    /// Returns all bytes at once.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub async fn whole(&self) -> io::Result<Bytes> {
        if let Place::Memory(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let mut whole = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
        let mut pieces = self.pieces();
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole.into())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self {
            length: bytes.len() as u64,
            bytes: Place::Memory(bytes),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.length)
    }
}

/// Reads the piece of a file at this place. Blocks.
fn piece(file: &Mutex<File>, at: u64, length: u64) -> io::Result<Bytes> {
    let most = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
    let mut piece = vec![0; most];
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_content_in_a_file_is_read_in_pieces_and_again() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let content = Content::in_file(file, 150_000);
        for _ in 0..2 {
            assert_eq!(content.whole().await.unwrap(), bytes[..150_000]);
        }
        let (mut one, mut other) = (content.pieces(), content.clone().pieces());
        let first = one.next().await.unwrap().unwrap();
        assert_eq!(first.len(), PIECE);
        assert_eq!(other.next().await.unwrap().unwrap(), first);
        let rest: Vec<_> = one.map(|piece| piece.unwrap().len()).collect().await;
        assert_eq!(rest, [PIECE, 150_000 - 2 * PIECE]);
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_its_content_is_an_error() {
        let content = Content::in_file(tempfile::tempfile().unwrap(), 1);
        let error = content.whole().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
