//! Bodies that come packed: `Content-Encoding`. They are unpacked within the limit for bodies, and
//! within the memory that this takes.

use std::io::Read;

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};

use crate::ApiError;
use crate::error::ACCEPTED_CODINGS;

/// The most codings, one within the other.
const MOST_CODINGS: usize = 3;

/// The largest window of zstd, as a power of two: 8 MiB, which RFC 9659 wants of anyone who speaks
/// HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How much brotli is read at once.
const BROTLI_BUFFER: usize = 4096;

/// One way to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of a body, in the order in which they were applied.
///
/// # Errors
/// A 415 with the known ones, for any other.
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
        "Unsupported content encoding. Supported are: {ACCEPTED_CODINGS}; or send the JSON as it is."
    );
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).coded("unsupported_content_encoding")
}

/// Unpacks a body, on a thread that may block: a small one can become a large one.
///
/// # Errors
/// A 413 past the limit, a 400 where it is broken.
pub(crate) async fn unpack(
    body: Bytes,
    codings: Vec<Coding>,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let unpacking = move || {
        let mut body = body;
        for coding in codings.into_iter().rev() {
            body = one(coding, &body, limit)?.into();
        }
        Ok(body)
    };
    tokio::task::spawn_blocking(unpacking)
        .await
        .unwrap_or_else(|_| Err(broken()))
}

fn one(coding: Coding, packed: &[u8], limit: usize) -> Result<Vec<u8>, ApiError> {
    match coding {
        Coding::Gzip => within(MultiGzDecoder::new(packed), limit),
        // The name means zlib. Some clients send what is inside of it alone.
        Coding::Deflate if is_zlib(packed) => within(ZlibDecoder::new(packed), limit),
        Coding::Deflate => within(DeflateDecoder::new(packed), limit),
        Coding::Brotli => within(Decompressor::new(packed, BROTLI_BUFFER), limit),
        Coding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| broken())?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(|_| broken())?;
            within(decoder, limit)
        }
    }
}

/// Whether it begins as RFC 1950 has it: the method, and a check of the first two bytes.
fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

fn within(unpacked: impl Read, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    unpacked
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|_| broken())?;
    if body.len() > limit {
        Err(ApiError::body_too_large(limit))
    } else {
        Ok(body)
    }
}

fn broken() -> ApiError {
    let message =
        "The body of the request is not what its 'content-encoding' header says, or broke off.";
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("invalid_content_encoding")
}
