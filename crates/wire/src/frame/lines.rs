//! Splits a stream of bytes into lines.

use bytes::{Buf, Bytes, BytesMut};

/// A line is longer than the limit: the peer is faulty or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub struct LineTooLong {
    /// The maximum length of a line in bytes.
    pub limit: usize,
}

/// Splits a stream of bytes into lines that end with `\n` or `\r\n`.
///
/// A line within one pushed packet is returned without a copy. Only a line that spans several
/// packets is copied.
///
/// ```
/// use bytes::Bytes;
/// use loggia_wire::frame::Lines;
///
/// let mut lines = Lines::new(1024);
/// lines.push(Bytes::from_static(b"{\"done\": false}\n{\"done\""));
/// assert_eq!(lines.next_line()?, Some(Bytes::from_static(b"{\"done\": false}")));
/// assert_eq!(lines.next_line()?, None); // the rest has not arrived
/// lines.push(Bytes::from_static(b": true}\r\n"));
/// assert_eq!(lines.next_line()?, Some(Bytes::from_static(b"{\"done\": true}")));
/// # Ok::<(), loggia_wire::frame::LineTooLong>(())
/// ```
#[derive(Debug)]
pub struct Lines {
    /// The beginning of an incomplete line.
    partial: BytesMut,
    /// Bytes that were pushed and not read yet.
    ahead: Bytes,
    limit: usize,
}

impl Lines {
    /// Creates a reader that accepts lines of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            partial: BytesMut::new(),
            ahead: Bytes::new(),
            limit,
        }
    }

    /// Adds the next bytes. Read all lines with [`Lines::next_line`] before you add more.
    pub fn push(&mut self, bytes: Bytes) {
        if self.ahead.is_empty() {
            self.ahead = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.ahead.len() + bytes.len());
            joined.extend_from_slice(&self.ahead);
            joined.extend_from_slice(&bytes);
            self.ahead = joined.freeze();
        }
    }

    /// Returns the next complete line, without its line ending.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        let Some(end) = memchr::memchr(b'\n', &self.ahead) else {
            self.check(self.ahead.len())?;
            self.partial.extend_from_slice(&self.ahead);
            // An empty remainder would still reference the packet, so its buffer could not be
            // reused.
            self.ahead = Bytes::new();
            return Ok(None);
        };
        self.check(end)?;
        let rest = self.ahead.split_to(end);
        self.ahead.advance(1);
        let line = if self.partial.is_empty() {
            rest
        } else {
            self.partial.extend_from_slice(&rest);
            std::mem::take(&mut self.partial).freeze()
        };
        Ok(Some(without_carriage_return(line)))
    }

    /// Returns the last line if the stream ended without a line ending.
    pub fn finish(&mut self) -> Option<Bytes> {
        let line = std::mem::take(&mut self.partial).freeze();
        (!line.is_empty()).then(|| without_carriage_return(line))
    }

    fn check(&self, more: usize) -> Result<(), LineTooLong> {
        if self.partial.len() + more > self.limit {
            Err(LineTooLong { limit: self.limit })
        } else {
            Ok(())
        }
    }
}

fn without_carriage_return(mut line: Bytes) -> Bytes {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(
        pieces: impl IntoIterator<Item = Bytes>,
        limit: usize,
    ) -> Result<Vec<Bytes>, LineTooLong> {
        let mut lines = Lines::new(limit);
        let mut read = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.next_line()? {
                read.push(line);
            }
        }
        read.extend(lines.finish());
        Ok(read)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_wherever_the_bytes_are_cut(
            text in "([a-z{}\":é]{0,9}\r?\n?){0,12}", cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let whole = Bytes::from(text);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| whole.slice(pair[0]..pair[1]));
            prop_assert_eq!(read(pieces, 1000), read([whole.clone()], 1000));
        }
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_however_it_comes() {
        assert_eq!(
            read([Bytes::from("12345\n")], 4),
            Err(LineTooLong { limit: 4 })
        );
        assert_eq!(
            read([Bytes::from("123"), Bytes::from("45")], 4),
            Err(LineTooLong { limit: 4 })
        );
        assert_eq!(
            read([Bytes::from("1234\n1234\n")], 4).map(|lines| lines.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_line_within_one_packet_is_not_copied() {
        let packet = Bytes::from("one\ntwo\n");
        let mut lines = Lines::new(100);
        lines.push(packet.clone());
        let first = lines.next_line().expect("short").expect("a line");
        assert_eq!(first.as_ptr(), packet.as_ptr());
    }
}
