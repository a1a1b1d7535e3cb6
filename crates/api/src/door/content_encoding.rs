//! Decompresses request bodies (`Content-Encoding`), within the limit for bodies and with bounded
//! memory.

use std::io::Read;

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};

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
        // The name means zlib. Some clients send raw deflate data.
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

/// Returns whether the data has a zlib header (RFC 1950): the method, and a checksum of the first
/// two bytes.
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
    let message = "The body of the request cannot be decompressed: it is incomplete, or does not match its 'content-encoding' header.";
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("invalid_content_encoding")
}
