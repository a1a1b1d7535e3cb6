//! Bodies with a `Content-Encoding`.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::Request;
use http_body_util::Full;
use loggia_api::Policy;
use serde_json::json;

use crate::support::{Answer, hello, layered, plain_model, send};

/// The maximum size of a body, and a body that is larger.
const LIMIT: usize = 1 << 20;
const SPACES: usize = 4 << 20;

/// Compressed with the reference encoder: a chat with the message "Hello", and 64 MiB of spaces.
const BROTLI: &str =
    "G0YAqIzDdKM9f4RwrTYRz9uO/IGtLqNA9y8I1zosXX3BIScCt7dAAoS6hGo9McCBn9edpfaJJMcdWSFWWHBh4Xc=";
const BROTLI_SPACES: &str = "y///P/glQOKxQCD3/o///3/wSwDEYRGA7v0f////4JcAiMMCAN37P/7//8EvARCHBQC693/8//+DXwIgDgsAdO//+P//B78EQBwWAOje//H//w9+CYA4LADQvf/L//8//BIAcVgAoHv/Bw==";

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(body: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(body, 1).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

async fn post(encoding: &str, body: Vec<u8>) -> Answer {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    let request = request
        .header("content-encoding", encoding)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let policy = Policy {
        body_limit: LIMIT,
        ..Policy::default()
    };
    send(&layered(&plain_model(), policy), request).await
}

#[tokio::test]
async fn a_packed_body_is_read_whatever_it_is_packed_with() {
    let body = hello(json!({})).to_string().into_bytes();
    let members = [gzip(&body[..20]), gzip(&body[20..])].concat();
    for (encoding, packed) in [
        ("gzip", gzip(&body)),
        ("X-Gzip", gzip(&body)),
        ("gzip", members),
        ("deflate", zlib(&body)),
        ("deflate", deflate(&body)),
        ("br", base64(BROTLI)),
        ("ZSTD", zstd(&body)),
        ("gzip, zstd", zstd(&gzip(&body))),
        ("identity", body.clone()),
        ("", body.clone()),
    ] {
        let answer = post(encoding, packed).await;
        assert_eq!(answer.status(), 200, "{encoding}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_body_that_becomes_too_large_is_a_413_and_never_held() {
    let spaces = vec![b' '; SPACES];
    for (encoding, packed) in [
        ("gzip", gzip(&spaces)),
        ("deflate", zlib(&spaces)),
        ("deflate", deflate(&spaces)),
        ("br", base64(BROTLI_SPACES)),
        ("zstd", zstd(&spaces)),
        ("gzip, gzip", gzip(&gzip(&spaces))),
    ] {
        let answer = post(encoding, packed).await;
        let code = &answer.json()["error"]["code"];
        assert_eq!(
            (answer.status(), code),
            (413, &json!("request_too_large")),
            "{encoding}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_its_header_says_is_a_400() {
    let body = hello(json!({})).to_string().into_bytes();
    let cut = |packed: Vec<u8>| packed[..packed.len() / 2].to_vec();
    for (encoding, packed) in [
        ("gzip", body.clone()),
        ("gzip", cut(gzip(&body))),
        ("gzip", Vec::new()),
        ("gzip", [gzip(&body), b"more".to_vec()].concat()),
        ("deflate", cut(zlib(&body))),
        ("deflate", cut(deflate(&body))),
        ("br", cut(base64(BROTLI))),
        ("zstd", cut(zstd(&body))),
        ("zstd", gzip(&body)),
        ("gzip, zstd", gzip(&zstd(&body))),
    ] {
        let answer = post(encoding, packed).await;
        assert_eq!(answer.status(), 400, "{encoding}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_window_that_takes_more_memory_than_a_body_may_is_not_opened() {
    let body = hello(json!({})).to_string().into_bytes();
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&body).unwrap();
    let answer = post("zstd", encoder.finish().unwrap()).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
}

#[tokio::test]
async fn an_encoding_that_is_not_known_is_a_415_with_those_that_are() {
    for encoding in ["compress", "gzip, banana", "gzip, gzip, gzip, gzip"] {
        let answer = post(encoding, b"{}".to_vec()).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["code"]),
            (415, &json!("unsupported_content_encoding")),
            "{encoding}"
        );
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("gzip, deflate, br, zstd"),
            "{error}"
        );
        assert_eq!(
            answer.header("accept-encoding"),
            Some("gzip, deflate, br, zstd")
        );
    }
}
