//! Finds the end of a response's body: by its length, by its chunks, or by the end of the
//! connection. No I/O.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

use super::error::NotHttp;

/// The maximum number of bytes of a body's chunk extensions and trailers, which are ignored.
const IGNORED: usize = 16 << 10;

/// The rest of a body that has not been decoded.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes follow.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked(Chunks),
    /// The body ends when the server closes the connection.
    UntilClose,
    /// The body is invalid. That is reported when it is read.
    Invalid(NotHttp),
}

/// Bytes of a body.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) data: Bytes,
    /// Whether bytes follow the end of the body.
    pub(super) has_excess: bool,
}

impl Framing {
    /// Returns the framing of a response (RFC 9112, section 6.3).
    pub(super) fn of(
        asked: &Method,
        status: StatusCode,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Self, NotHttp> {
        if *asked == Method::HEAD
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok(Self::Length(0));
        }
        if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
            if version == Version::HTTP_10 {
                return Err(NotHttp("HTTP/1.0 has no transfer-encoding"));
            }
            let coding = coding.as_bytes().rsplit(|byte| *byte == b',').next();
            let is_chunked =
                coding.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            return Ok(if is_chunked {
                Self::Chunked(Chunks::default())
            } else {
                Self::UntilClose
            });
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else {
            return Ok(Self::UntilClose);
        };
        if lengths.any(|other| other != first) {
            return Err(NotHttp("two different values of content-length"));
        }
        let digits = first.to_str().ok().filter(|length| {
            !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit())
        });
        let length = digits.and_then(|digits| digits.parse().ok());
        length
            .map(Self::Length)
            .ok_or(NotHttp("content-length is not a number"))
    }

    /// Returns whether the body has ended.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.step == Step::Done,
            Self::UntilClose | Self::Invalid(_) => false,
        }
    }

    /// Returns the number of bytes that follow, if it is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose | Self::Invalid(_) => self.is_done().then_some(0),
        }
    }

    /// Decodes received bytes. What follows the end of the body is dropped.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, NotHttp> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= taken as u64;
                Ok(Decoded {
                    data: Bytes::copy_from_slice(&bytes[..taken]),
                    has_excess: taken < bytes.len(),
                })
            }
            Self::Chunked(chunks) => chunks.decode(bytes),
            Self::UntilClose => Ok(Decoded {
                data: Bytes::copy_from_slice(bytes),
                has_excess: false,
            }),
            Self::Invalid(rule) => Err(*rule),
        }
    }
}

/// The place in a chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    step: Step,
    /// The size of the chunk as far as read, and then the bytes of its data that follow.
    left: u64,
    /// The number of digits of the size.
    digits: u8,
    /// The number of ignored bytes.
    ignored: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// The beginning of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl Chunks {
    fn decode(&mut self, mut bytes: &[u8]) -> Result<Decoded, NotHttp> {
        // Most packets have one chunk, whose data is copied once. The data of several is joined.
        let mut first: &[u8] = &[];
        let mut joined = Vec::new();
        while !bytes.is_empty() && self.step != Step::Done {
            let data = self.next_data(&mut bytes)?;
            if first.is_empty() {
                first = data;
            } else if !data.is_empty() {
                if joined.is_empty() {
                    joined.reserve_exact(first.len() + data.len() + bytes.len());
                    joined.extend_from_slice(first);
                }
                joined.extend_from_slice(data);
            }
        }
        Ok(Decoded {
            data: if joined.is_empty() {
                Bytes::copy_from_slice(first)
            } else {
                joined.into()
            },
            has_excess: !bytes.is_empty(),
        })
    }

    /// Returns the next data of a chunk. It is empty at the end of the bytes or of the body.
    fn next_data<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<&'a [u8], NotHttp> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.step = match (self.step, byte) {
                (Step::Done, _) => break,
                (Step::Data, _) => {
                    let taken = usize::try_from(self.left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    let (data, rest) = bytes.split_at(taken);
                    *bytes = rest;
                    self.left -= taken as u64;
                    if self.left == 0 {
                        self.step = Step::DataReturn;
                    }
                    return Ok(data);
                }
                (Step::Size, b'\r') if self.digits > 0 => Step::SizeLineFeed,
                (Step::Size, b';' | b' ' | b'\t') if self.digits > 0 => Step::Extension,
                (Step::Size, digit) => {
                    let value = char::from(digit).to_digit(16);
                    // 15 digits cannot overflow.
                    let value = value.filter(|_| self.digits < 15);
                    let value = value.ok_or(NotHttp("an invalid size of a chunk"))?;
                    self.left = self.left * 16 + u64::from(value);
                    self.digits += 1;
                    Step::Size
                }
                (Step::Extension, b'\r') => Step::SizeLineFeed,
                (Step::SizeLineFeed, b'\n') if self.left == 0 => Step::TrailerStart,
                (Step::SizeLineFeed, b'\n') => Step::Data,
                (Step::DataReturn, b'\r') => Step::DataLineFeed,
                (Step::DataLineFeed, b'\n') => {
                    self.digits = 0;
                    Step::Size
                }
                (Step::TrailerStart, b'\r') => Step::LastLineFeed,
                (Step::Trailer, b'\r') => Step::TrailerLineFeed,
                (Step::TrailerLineFeed, b'\n') => Step::TrailerStart,
                (Step::LastLineFeed, b'\n') => Step::Done,
                (Step::Extension, other) if other != b'\n' => self.ignore(Step::Extension)?,
                (Step::TrailerStart | Step::Trailer, other) if other != b'\n' => {
                    self.ignore(Step::Trailer)?
                }
                _ => return Err(NotHttp("an invalid end of a line between chunks")),
            };
            *bytes = rest;
        }
        Ok(&[])
    }

    /// Ignores a byte, up to the limit.
    fn ignore(&mut self, next: Step) -> Result<Step, NotHttp> {
        self.ignored += 1;
        if self.ignored > IGNORED {
            return Err(NotHttp("too many extensions or trailers of chunks"));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Framing {
        Framing::Chunked(Chunks::default())
    }

    /// Decodes pieces up to the end of the body, and returns its data, and whether anything follows.
    fn decode<'a>(
        mut framing: Framing,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, bool, bool), NotHttp> {
        let (mut data, mut has_excess) = (Vec::new(), false);
        for piece in pieces {
            let decoded = framing.decode(piece)?;
            data.extend_from_slice(&decoded.data);
            has_excess |= decoded.has_excess;
        }
        Ok((data, framing.is_done(), has_excess))
    }

    proptest! {
        #[test]
        fn a_chunked_body_is_the_same_wherever_the_bytes_are_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            end in prop::sample::select(vec!["0\r\n\r\n", "0;last\r\n\r\n", "000\r\nx-trailer: 1\r\ny: \r\n\r\n"]),
            extension in prop::sample::select(vec!["", ";name=value", " ; x", "\t"]),
            cuts in prop::collection::vec(0usize..2000, 0..12),
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(format!("{:x}{extension}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(end.as_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]);
            let decoded = decode(chunked(), pieces);
            prop_assert_eq!(decoded, Ok((parts.concat(), true, false)));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framing = chunked();
            let _either = framing.decode(&bytes);
        }
    }

    #[test]
    fn a_body_of_a_length_ends_after_so_many_bytes() {
        let pieces = |pieces: &[&'static [u8]]| decode(Framing::Length(5), pieces.to_vec());
        assert_eq!(pieces(&[b"12"]), Ok((b"12".to_vec(), false, false)));
        assert_eq!(
            pieces(&[b"12", b"345"]),
            Ok((b"12345".to_vec(), true, false))
        );
        assert_eq!(pieces(&[b"1234567"]), Ok((b"12345".to_vec(), true, true)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(IGNORED + 1));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(IGNORED));
        for wire in [
            "\r\n",
            "x\r\n",
            ";\r\n",
            "-1\r\n",
            "+1\r\n",
            "1\n",
            "1;a\nb\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\n\n",
            "0\r\nx: 1\n",
            "1000000000000000\r\n",
            &long,
            &trailers,
        ] {
            let decoded = decode(chunked(), [wire.as_bytes()]);
            assert!(decoded.is_err(), "{:?}", &wire[..wire.len().min(40)]);
        }
        let after = decode(chunked(), [&b"1\r\na\r\n0\r\n\r\nHTTP"[..]]);
        assert_eq!(after, Ok((b"a".to_vec(), true, true)));
    }

    #[test]
    fn headers_and_status_decide_how_a_body_ends() {
        let of = |status: u16, version, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            let framing = Framing::of(&Method::POST, status, version, &headers);
            framing.map(|framing| match framing {
                Framing::Length(length) => length.to_string(),
                Framing::Chunked(_) => "chunked".to_owned(),
                Framing::UntilClose => "close".to_owned(),
                Framing::Invalid(rule) => rule.to_string(),
            })
        };
        let (one, zero) = (Version::HTTP_11, Version::HTTP_10);
        let is = |what: &str| Ok(what.to_owned());
        assert_eq!(of(200, one, &[("content-length", "12")]), is("12"));
        assert_eq!(of(204, one, &[("content-length", "12")]), is("0"));
        assert_eq!(of(304, one, &[("transfer-encoding", "chunked")]), is("0"));
        assert_eq!(of(200, one, &[]), is("close"));
        assert_eq!(
            of(200, one, &[("transfer-encoding", "Chunked")]),
            is("chunked")
        );
        assert_eq!(
            of(200, one, &[("transfer-encoding", "gzip, chunked")]),
            is("chunked")
        );
        assert_eq!(
            of(200, one, &[("transfer-encoding", "chunked, gzip")]),
            is("close")
        );
        let both = [("content-length", "3"), ("transfer-encoding", "chunked")];
        assert_eq!(of(200, one, &both), is("chunked"));
        let same = [("content-length", "3"), ("content-length", "3")];
        assert_eq!(of(200, one, &same), is("3"));
        for bad in [
            &[("content-length", "3"), ("content-length", "4")][..],
            &[("content-length", "3, 3")],
            &[("content-length", "+3")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(of(200, one, bad).is_err(), "{bad:?}");
        }
        assert!(of(200, zero, &[("transfer-encoding", "chunked")]).is_err());
        assert_eq!(
            Framing::of(&Method::HEAD, StatusCode::OK, one, &HeaderMap::new())
                .unwrap()
                .left(),
            Some(0)
        );
    }
}
