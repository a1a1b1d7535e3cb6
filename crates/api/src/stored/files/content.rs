//! `GET /v1/files/{file_id}/content`: sends a file, or one range of it.

use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_range_header::parse_range_header;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Files, Head, StoredFile};
use crate::{ApiError, Body};

impl Files {
    pub(super) async fn content(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let StoredFile { file, place, .. } = self.find(head.route.id()).await?;
        // A content never changes.
        let tag = format!("\"{}\"", file.id);
        let Ok(range) = range(&head.parts.headers, file.bytes, &tag) else {
            return Ok(unsatisfiable(file.bytes));
        };
        let part = range.clone().unwrap_or(0..file.bytes);
        let length = part.end - part.start;
        let pieces = self.blobs.read(&place, part.clone()).await;
        let pieces = pieces.map_err(|error| self.failed(&error))?;
        let mut response = Response::new(Body::content(pieces, length));
        let headers = response.headers_mut();
        insert(headers, CONTENT_TYPE, "application/octet-stream");
        // So that no browser shows the content as a page of this server.
        insert(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
        insert(headers, CONTENT_DISPOSITION, &disposition(&file.filename));
        insert(headers, ACCEPT_RANGES, "bytes");
        insert(headers, ETAG, &tag);
        headers.insert(CONTENT_LENGTH, length.into());
        if range.is_some() {
            let last = part.end - 1;
            let range = format!("bytes {}-{last}/{}", part.start, file.bytes);
            insert(headers, CONTENT_RANGE, &range);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }
}

fn unsatisfiable(length: u64) -> Response<Body> {
    let message = format!("The range is outside of the file, which has {length} bytes.");
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message);
    let mut response = error.response();
    let range = format!("bytes */{length}");
    insert(response.headers_mut(), CONTENT_RANGE, &range);
    response
}

/// No byte of the file is in the range.
struct Unsatisfiable;

/// Returns the range that a request asks for. `None` for the whole file, also for several ranges or
/// for a header that cannot be parsed, as RFC 9110 allows.
fn range(headers: &HeaderMap, length: u64, tag: &str) -> Result<Option<Range<u64>>, Unsatisfiable> {
    if headers
        .get(IF_RANGE)
        .is_some_and(|seen| seen.as_bytes() != tag.as_bytes())
    {
        return Ok(None);
    }
    let header = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let single = header.filter(|range| !range.contains(','));
    let Some(Ok(parsed)) = single.map(parse_range_header) else {
        return Ok(None);
    };
    let ranges = parsed.validate(length).map_err(|_| Unsatisfiable)?;
    Ok(ranges.first().map(|range| *range.start()..*range.end() + 1))
}

/// The header with which a browser saves the file under its name (RFC 6266).
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|one| match one {
            ' '..='~' if one != '"' && one != '\\' => one,
            _ => '_',
        })
        .collect();
    if plain == name {
        return format!("attachment; filename=\"{plain}\"");
    }
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// Adds a header. All values are visible ASCII.
fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_and_encoded_if_it_has_to_be() {
        assert_eq!(disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(
            disposition("é\"\r\n.txt"),
            "attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A9%22%0D%0A%2Etxt"
        );
    }

    #[test]
    fn one_range_is_honoured_and_several_are_the_whole_file() {
        let asked = |value: &str, length| {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_str(value).unwrap())]);
            range(&headers, length, "\"t\"").map_err(|_| ())
        };
        assert_eq!(asked("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(asked("bytes=5-", 10), Ok(Some(5..10)));
        assert_eq!(asked("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(asked("bytes=5-99", 10), Ok(Some(5..10)));
        assert_eq!(asked("bytes=10-", 10), Err(()));
        assert_eq!(asked("bytes=0-", 0), Err(()));
        for whole in ["bytes=0-1,3-4", "lines=0-1", "bytes=b-a", ""] {
            assert_eq!(asked(whole, 10), Ok(None), "{whole}");
        }
    }

    #[test]
    fn a_range_of_another_content_is_the_whole_file() {
        let mut headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
        assert!(matches!(range(&headers, 10, "\"t\""), Ok(None)));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"t\""));
        assert!(matches!(range(&headers, 10, "\"t\""), Ok(Some(_))));
    }
}
