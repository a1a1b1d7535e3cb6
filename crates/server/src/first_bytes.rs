//! The first bytes of a connection, which show the version of HTTP that the client speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes with which a client begins HTTP/2 (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes may be the preface of HTTP/2. The reader gets the preface in one
/// piece, however it arrives: hyper's HTTP/1.1 recognizes a whole one, and refuses the beginning of
/// one.
pub(crate) struct FirstBytes<C> {
    stream: C,
    first: First,
}

enum First {
    /// So many bytes of the preface have arrived, and nothing else.
    Preface(usize),
    /// Bytes that have been received, and that the reader gets first.
    Received(Bytes),
    /// Nothing more is to be watched.
    Past,
}

impl<C> FirstBytes<C> {
    pub(crate) fn new(stream: C) -> Self {
        let first = First::Preface(0);
        Self { stream, first }
    }

    /// Continues a connection of which these bytes have already been received.
    pub(crate) fn after(received: Bytes, stream: C) -> Self {
        let first = First::Received(received);
        Self { stream, first }
    }

    pub(crate) fn into_inner(self) -> C {
        self.stream
    }
}

impl<C: AsyncRead + Unpin> FirstBytes<C> {
    /// Reads while the connection may begin with the preface.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut arrived: usize,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        loop {
            if buffer.remaining() < PREFACE.len() {
                // Only a reader that is not hyper's has so little room.
                self.first = First::Received(Bytes::from_static(&PREFACE[..arrived]));
                return Pin::new(self).poll_read(cx, buffer);
            }
            buffer.put_slice(&PREFACE[..arrived]);
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            if read.is_pending() {
                buffer.set_filled(start);
            }
            ready!(read)?;
            let bytes = &buffer.filled()[start..];
            let is_more = bytes.len() > arrived;
            if !is_more || bytes.len() >= PREFACE.len() || !PREFACE.starts_with(bytes) {
                self.first = First::Past;
                return Poll::Ready(Ok(()));
            }
            arrived = bytes.len();
            self.first = First::Preface(arrived);
            buffer.set_filled(start);
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for FirstBytes<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.first {
            First::Past => Pin::new(&mut self.stream).poll_read(cx, buffer),
            First::Preface(arrived) => {
                let arrived = *arrived;
                self.poll_first(cx, buffer, arrived)
            }
            First::Received(bytes) if bytes.is_empty() => {
                self.first = First::Past;
                Pin::new(&mut self.stream).poll_read(cx, buffer)
            }
            First::Received(bytes) => {
                let length = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes.split_to(length));
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for FirstBytes<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A stream that gives one piece for each read, and is not ready before each.
    struct Pieces {
        pieces: VecDeque<&'static [u8]>,
        is_ready: bool,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.is_ready = !self.is_ready;
            if self.is_ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let piece = self.pieces.pop_front().unwrap_or_default();
            assert!(piece.len() <= buffer.remaining());
            buffer.put_slice(piece);
            Poll::Ready(Ok(()))
        }
    }

    /// What a reader gets of these pieces, read by read.
    fn reads(pieces: &[&'static [u8]], room: usize) -> Vec<Vec<u8>> {
        let pieces = pieces.iter().copied().collect();
        let mut stream = FirstBytes::new(Pieces {
            pieces,
            is_ready: false,
        });
        let mut reads = Vec::new();
        loop {
            let mut buffer = vec![0; room];
            // Each read is pending a few times.
            let read = std::iter::repeat_with(|| stream.read(&mut buffer).now_or_never());
            let length = read.take(60).flatten().next().unwrap().unwrap();
            if length == 0 {
                return reads;
            }
            buffer.truncate(length);
            reads.push(buffer);
        }
    }

    #[test]
    fn the_preface_is_read_in_one_piece_wherever_it_is_split() {
        for at in 1..PREFACE.len() {
            let (one, two) = PREFACE.split_at(at);
            assert_eq!(reads(&[one, two], 100), [PREFACE], "at {at}");
        }
        let single: Vec<_> = PREFACE.chunks(1).collect();
        assert_eq!(reads(&single, 100), [PREFACE]);
        assert_eq!(reads(&[PREFACE, b"rest"], 100), [PREFACE, b"rest"]);
    }

    #[test]
    fn other_bytes_are_read_as_they_come() {
        let requests: &[&[&[u8]]] = &[
            &[b"GET / HTTP/1.1\r\n", b"host: x\r\n\r\n"],
            &[b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0"],
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"],
        ];
        for request in requests {
            assert_eq!(reads(request, 100), *request);
        }
    }

    #[test]
    fn a_beginning_that_is_not_continued_is_not_lost() {
        assert_eq!(
            reads(&[b"P", b"UT / HTTP/1.1"], 100),
            [b"PUT / HTTP/1.1".to_vec()]
        );
        assert_eq!(reads(&[b"PRI * "], 100), [b"PRI * "]);
    }

    #[test]
    fn received_bytes_come_first() {
        let pieces = Pieces {
            pieces: [&b"two"[..]].into(),
            is_ready: true,
        };
        let mut stream = FirstBytes::after(Bytes::from_static(b"one"), pieces);
        let mut bytes = [0; 6];
        stream
            .read_exact(&mut bytes)
            .now_or_never()
            .unwrap()
            .unwrap();
        assert_eq!(&bytes, b"onetwo");
    }
}
