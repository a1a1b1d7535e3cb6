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

    /// Returns a reader of all bytes, for threads that may block.
    pub fn reader(&self) -> ContentReader {
        ContentReader {
            content: self.clone(),
            at: 0,
        }
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

/// Reads a [`Content`]. Blocks.
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    at: u64,
}

impl io::Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.length.saturating_sub(self.at);
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = match &self.content.bytes {
            Place::Memory(bytes) => {
                // Cannot fail: the place is within the bytes, which are in memory.
                let from = usize::try_from(self.at)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                buffer[..most].copy_from_slice(&bytes[from..from + most]);
                most
            }
            Place::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(self.at))?;
                file.read(&mut buffer[..most])?
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl io::Seek for ContentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.content.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
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

    #[test]
    fn a_reader_reads_from_where_it_was_set() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let in_memory = Content::from(Bytes::from_static(b"01234567"));
        for content in [Content::in_file(file, 8), in_memory] {
            let (mut reader, mut other) = (content.reader(), content.reader());
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "01234567");
            assert_eq!(reader.seek(SeekFrom::End(-2)).unwrap(), 6);
            other.seek(SeekFrom::Start(3)).unwrap();
            let mut two = [0; 2];
            other.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"34");
            reader.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"67");
            assert_eq!(reader.seek(SeekFrom::Current(20)).unwrap(), 28);
            assert_eq!(reader.read(&mut two).unwrap(), 0);
            assert!(reader.seek(SeekFrom::Current(-29)).is_err());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_its_content_is_an_error() {
        let content = Content::in_file(tempfile::tempfile().unwrap(), 1);
        let error = content.whole().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
