//! The heads of HTTP/1.1 messages: writes that of a request and parses that of a response. No I/O.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use super::RequestBody;
use super::error::NotHttp;
use super::framing::Framing;

/// The maximum size of the head of a response.
const MAX_HEAD: usize = 64 << 10;

/// The maximum number of its headers.
const MAX_HEADERS: usize = 100;

/// The initial capacity for the head of a request. Most are shorter.
const REQUEST_HEAD: usize = 400;

/// Returns the head of a request. Its body determines `content-length`.
pub(super) fn write(request: &Request<RequestBody>) -> Vec<u8> {
    let mut out = Vec::with_capacity(REQUEST_HEAD);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let path = request.uri().path_and_query();
    out.extend_from_slice(path.map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    // The lengths of both kinds of bodies are known.
    let length = request.body().size_hint().lower();
    let may_have_none = [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS];
    if length > 0 || !may_have_none.contains(request.method()) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "content-length: {length}\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether another request can follow on the connection.
    pub(super) keeps_alive: bool,
    /// Its length in bytes.
    pub(super) length: usize,
}

/// Parses the head of a response to a request with this method. Returns `None` if it is incomplete.
pub(super) fn parse(bytes: &[u8], asked: &Method) -> Result<Option<ResponseHead>, NotHttp> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut headers,
    ) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD => {
            return Err(NotHttp("a head that is too long"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NotHttp("too many headers")),
        Err(_) => return Err(NotHttp("an invalid head")),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(NotHttp("an invalid status"))?;
    let version = if parsed.version == Some(1) {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    // All values share one copy of the head.
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut response = Response::new(());
    let all = response.headers_mut();
    all.reserve(parsed.headers.len());
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let from = header.value.as_ptr().addr() - bytes.as_ptr().addr();
        let value = head.slice(from..from + header.value.len());
        let value = HeaderValue::from_maybe_shared(value);
        match (name, value) {
            (Ok(name), Ok(value)) => all.append(name, value),
            _ => return Err(NotHttp("an invalid header")),
        };
    }
    *response.status_mut() = status;
    *response.version_mut() = version;
    let framing = Framing::of(asked, status, version, response.headers())?;
    let keeps_alive =
        !matches!(framing, Framing::UntilClose) && keeps_alive(version, response.headers());
    Ok(Some(ResponseHead {
        response,
        framing,
        keeps_alive,
        length,
    }))
}

/// Returns whether the headers allow another request on the connection.
fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    // Two lengths of one body: another program may find another end of it.
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return false;
    }
    let has = |option: &[u8]| {
        let values = headers.get_all(CONNECTION).into_iter();
        values
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|each| each.trim_ascii().eq_ignore_ascii_case(option))
    };
    if version == Version::HTTP_11 {
        !has(b"close")
    } else {
        has(b"keep-alive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(text: &str) -> Result<Option<ResponseHead>, NotHttp> {
        parse(text.as_bytes(), &Method::POST)
    }

    #[test]
    fn a_head_is_parsed_once_it_is_complete() {
        let text = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-a: 1 \r\nx-a:\t2\r\ncontent-length: 2\r\n\r\n";
        for end in 0..text.len() {
            assert!(head_of(&text[..end]).unwrap().is_none(), "{end}");
        }
        let head = head_of(&format!("{text}{{}}")).unwrap().unwrap();
        assert_eq!(head.length, text.len());
        assert!(head.keeps_alive);
        assert_eq!(head.framing.left(), Some(2));
        assert_eq!(head.response.status(), 200);
        let values = head.response.headers().get_all("x-a");
        let values: Vec<_> = values.iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [b"1", b"2"]);
    }

    #[test]
    fn a_connection_is_kept_if_both_sides_want_that() {
        let keeps = |text: &str| head_of(text).unwrap().unwrap().keeps_alive;
        assert!(keeps("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps(
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nConnection: Keep-Alive\r\n\r\n"
        ));
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, Close\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(!keeps(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD));
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \u{1}\r\n\r\n",
            &many,
            &long,
        ] {
            assert!(head_of(text).is_err(), "{:?}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn the_body_determines_the_length_of_a_request() {
        let of = |method: Method, body: &'static [u8]| {
            let request = Request::builder()
                .method(method)
                .uri("/a?b=c")
                .header("content-length", "77")
                .header("transfer-encoding", "chunked")
                .header("x-mine", "1")
                .body(RequestBody::from(Bytes::from_static(body)));
            String::from_utf8(write(&request.unwrap())).unwrap()
        };
        assert_eq!(
            of(Method::POST, b"{}"),
            "POST /a?b=c HTTP/1.1\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\n"
        );
        assert_eq!(
            of(Method::POST, b""),
            "POST /a?b=c HTTP/1.1\r\nx-mine: 1\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(
            of(Method::GET, b""),
            "GET /a?b=c HTTP/1.1\r\nx-mine: 1\r\n\r\n"
        );
        assert_eq!(
            of(Method::DELETE, b"{}"),
            "DELETE /a?b=c HTTP/1.1\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\n"
        );
    }
}
