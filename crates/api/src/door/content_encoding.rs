//! Decompresses request bodies (`Content-Encoding`), within the limit for bodies and with bounded
//! memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};

use brotli_decompressor::Decompressor;
use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use crate::ApiError;
use crate::error::ACCEPTED_CODINGS;

/// The maximum number of nested codings.
const MOST_CODINGS: usize = 3;

/// The maximum window of zstd, as a power of two: 8 MiB, which RFC 9659 requires for HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The size of brotli's input buffer.
const BROTLI_BUFFER: usize = 4096;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Returns the codings of a body, in the order in which they were applied.
///
/// # Errors
/// Returns a 415 with the supported codings for any other.
pub(crate) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, ApiError> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().unwrap_or("?").split(',') {
            codings.push(match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(unknown()),
            });
        }
    }
    if codings.len() > MOST_CODINGS {
        Err(unknown())
    } else {
        Ok(codings)
    }
}

fn unknown() -> ApiError {
    let message = format!(
        "Unsupported content encoding. Supported are: {ACCEPTED_CODINGS}; or send the JSON uncompressed."
    );
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).coded("unsupported_content_encoding")
}

/// The bytes of a decompressed body that are passed on at once, and how many of these pieces wait.
const PIECE: usize = 64 << 10;
const PIECES: usize = 2;

/// Decompresses a body on a blocking thread, because a small body can become large.
///
/// # Errors
/// Returns a 413 above the limit, and a 400 for invalid data.
pub(crate) async fn unpack(
    body: Bytes,
    codings: Vec<Coding>,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let unpacking = move || {
        let most = limit as u64 + 1;
        let mut unpacked = Vec::new();
        let mut decoder = decoder(body.reader(), codings, most).map_err(|_| broken())?;
        decoder.read_to_end(&mut unpacked).map_err(|_| broken())?;
        if unpacked.len() > limit {
            Err(ApiError::body_too_large(limit))
        } else {
            Ok(unpacked.into())
        }
    };
    tokio::task::spawn_blocking(unpacking)
        .await
        .unwrap_or_else(|_| Err(broken()))
}

/// Decompresses a body in a file on a blocking thread, which waits for the receiver. Returns the
/// pieces, a 400 for invalid data, and an end after `most` bytes.
pub(crate) fn unpack_file(
    mut packed: File,
    codings: Vec<Coding>,
    most: u64,
) -> mpsc::Receiver<Result<Bytes, ApiError>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let unpacking = || {
            packed.rewind()?;
            let mut decoder = decoder(BufReader::new(packed), codings, most)?;
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                decoder
                    .by_ref()
                    .take(PIECE as u64)
                    .read_to_end(&mut piece)?;
                // Without a receiver, the client has left, or the body is refused.
                if piece.is_empty() || sender.blocking_send(Ok(piece.into())).is_err() {
                    return io::Result::Ok(());
                }
            }
        };
        if unpacking().is_err() {
            let _ = sender.blocking_send(Err(broken()));
        }
    });
    receiver
}

/// Returns a decoder of all codings, of which each writes at most `most` bytes. None keeps more than
/// its window in memory.
fn decoder(
    packed: impl BufRead + Send + 'static,
    codings: Vec<Coding>,
    most: u64,
) -> io::Result<Box<dyn BufRead + Send>> {
    let mut packed: Box<dyn BufRead + Send> = Box::new(packed);
    for coding in codings.into_iter().rev() {
        let unpacked = one(coding, packed)?.take(most);
        packed = Box::new(BufReader::new(unpacked));
    }
    Ok(packed)
}

fn one(coding: Coding, mut packed: Box<dyn BufRead + Send>) -> io::Result<Box<dyn Read + Send>> {
    Ok(match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(packed)),
        // The name means zlib. Some clients send raw deflate data.
        Coding::Deflate if is_zlib(packed.fill_buf()?) => Box::new(ZlibDecoder::new(packed)),
        Coding::Deflate => Box::new(DeflateDecoder::new(packed)),
        Coding::Brotli => Box::new(Decompressor::new(packed, BROTLI_BUFFER)),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Returns whether the data has a zlib header (RFC 1950): the method, and a checksum of the first
/// two bytes.
fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

fn broken() -> ApiError {
    let message = "The body of the request cannot be decompressed: it is incomplete, or does not match its 'content-encoding' header.";
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("invalid_content_encoding")
}
