//! A minimal HTTP/1.1 for both ends of the measurement: it finds the ends of requests and answers.
//!
//! It is only suitable for loopback and well-formed peers: it does not validate anything else.

use anyhow::{Result, bail, ensure};

/// The path of the request at the start of `bytes` and the request's end, once it is complete.
pub(crate) fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let head_end = head_end(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..head_end]);
    let end = head_end
        + header(&head, "content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    (bytes.len() >= end).then_some((path, end))
}

/// Reads the answers on a connection one after the other, and keeps only the length of each body
/// and its end.
#[derive(Default)]
pub(crate) struct AnswerReader {
    /// Bytes that were not parsed yet: a part of a head, or of a chunk's size line.
    pending: Vec<u8>,
    state: State,
    body_bytes: usize,
    tail: Vec<u8>,
    keep: usize,
}

#[derive(Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    Length(usize),
    ChunkSize,
    ChunkData(usize),
    /// The line end after a chunk's data.
    ChunkEnd(usize),
    LastChunk(usize),
}

/// One complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: usize,
    /// The last bytes of the body; their number is a setting of the reader.
    pub(crate) tail: Vec<u8>,
}

impl AnswerReader {
    pub(crate) fn keeping(keep: usize) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// The number of body bytes of the current answer so far.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Parses received bytes, and returns the answer that they complete. Nothing may follow it,
    /// because the next request has not been sent.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Option<Body>> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Length(left) => self.data(bytes, left, State::Length),
                State::ChunkSize => self.chunk_size(bytes)?,
                State::ChunkData(left) => {
                    let rest = self.data(bytes, left, State::ChunkData);
                    if let State::ChunkData(0) = self.state {
                        self.state = State::ChunkEnd(2);
                    }
                    rest
                }
                State::ChunkEnd(left) => {
                    let taken = left.min(bytes.len());
                    self.state = if left == taken {
                        State::ChunkSize
                    } else {
                        State::ChunkEnd(left - taken)
                    };
                    &bytes[taken..]
                }
                State::LastChunk(left) => {
                    let taken = left.min(bytes.len());
                    self.state = State::LastChunk(left - taken);
                    &bytes[taken..]
                }
            };
            if let State::Length(0) | State::LastChunk(0) = self.state {
                ensure!(bytes.is_empty(), "bytes followed the end of an answer");
                self.state = State::Head;
                return Ok(Some(Body {
                    bytes: std::mem::take(&mut self.body_bytes),
                    tail: std::mem::take(&mut self.tail),
                }));
            }
        }
        Ok(None)
    }

    fn head<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        let Some(end) = head_end(&self.pending) else {
            return Ok(&[]);
        };
        let head = String::from_utf8_lossy(&self.pending[..end]).into_owned();
        self.pending.clear();
        if !head.starts_with("HTTP/1.1 200") {
            bail!(
                "the gateway answered {:?} with {:?}",
                head,
                String::from_utf8_lossy(&bytes[end - before..])
            );
        }
        self.state = match header(&head, "content-length") {
            Some(length) => State::Length(length.parse()?),
            None => State::ChunkSize,
        };
        Ok(&bytes[end - before..])
    }

    fn chunk_size<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.pending.extend_from_slice(bytes);
            return Ok(&[]);
        };
        self.pending.extend_from_slice(&bytes[..end]);
        let size = usize::from_str_radix(String::from_utf8_lossy(&self.pending).trim(), 16)?;
        self.pending.clear();
        self.state = if size == 0 {
            State::LastChunk(2)
        } else {
            State::ChunkData(size)
        };
        Ok(&bytes[end + 1..])
    }

    fn data<'b>(&mut self, bytes: &'b [u8], left: usize, next: fn(usize) -> State) -> &'b [u8] {
        let taken = left.min(bytes.len());
        self.body_bytes += taken;
        self.tail
            .extend_from_slice(&bytes[taken.saturating_sub(self.keep)..taken]);
        let too_many = self.tail.len().saturating_sub(self.keep);
        self.tail.drain(..too_many);
        self.state = next(left - taken);
        &bytes[taken..]
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_same_wherever_its_bytes_are_split() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        for at in 0..whole.len() {
            let mut reader = AnswerReader::keeping(4);
            assert_eq!(reader.push(&whole[..at]).unwrap(), None);
            let body = reader.push(&whole[at..]).unwrap();
            assert_eq!(
                body,
                Some(Body {
                    bytes: 11,
                    tail: b"orld".to_vec()
                }),
                "split at {at}"
            );
        }
    }

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let bytes = b"POST /api/chat HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(request(&bytes[..bytes.len() - 1]), None);
        assert_eq!(request(bytes), Some(("/api/chat".to_owned(), bytes.len())));
    }

    #[test]
    fn a_refusal_is_an_error_that_shows_it() {
        let error = AnswerReader::default()
            .push(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno")
            .unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
    }
}
