//! Finds the requests in the body of `POST /v1/messages/batches` while it arrives. The body can be
//! much larger than the memory that a server should give to one client, so each request is taken out
//! of it as soon as it is complete.
//!
//! The text between the requests is checked here, and each request when it is parsed.

use std::collections::BTreeSet;

use http::StatusCode;
use serde::de::IgnoredAny;

use crate::ApiError;
use crate::admit::checks::missing;

/// The field with the requests.
const REQUESTS: &str = "requests";

/// Takes the requests out of a body, piece by piece.
#[derive(Debug)]
pub(super) struct RequestSplitter {
    state: State,
    /// The value that is being read, and its text so far.
    open: Option<Open>,
    text: Vec<u8>,
    /// The longest text of a value.
    longest: usize,
    /// The name of the field whose value comes next.
    field: String,
    has_requests: bool,
    unknown: BTreeSet<String>,
    /// The number of bytes before the next one.
    at: usize,
}

/// The part of the body that is expected next, apart from spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The brace that opens the body.
    Body,
    /// The name of a field, or the closing brace if `or_end`.
    Name {
        or_end: bool,
    },
    Colon,
    /// The value of a field.
    Value,
    /// A comma, or the closing brace.
    AfterValue,
    /// A request, or the bracket that closes the list if `or_end`.
    Request {
        or_end: bool,
    },
    /// A comma, or the bracket that closes the list.
    AfterRequest,
    /// The end of the body: only spaces may follow.
    End,
}

/// A value that has begun.
#[derive(Debug)]
struct Open {
    role: Role,
    /// How many objects and lists of the value are open.
    depth: usize,
    string: Option<InString>,
    /// Whether the value is a number or a word, which ends before the next mark.
    is_plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Name,
    Request,
    /// The value of an unknown field.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InString {
    Text,
    AfterBackslash,
}

impl Open {
    fn new(role: Role, first: u8) -> Self {
        Self {
            role,
            depth: usize::from(matches!(first, b'{' | b'[')),
            string: (first == b'"').then_some(InString::Text),
            is_plain: !matches!(first, b'{' | b'[' | b'"'),
        }
    }

    /// Steps over a byte of the value. Returns whether it is the last one.
    fn step(&mut self, byte: u8) -> bool {
        match (self.string, byte) {
            (Some(InString::AfterBackslash), _) | (None, b'"') => {
                self.string = Some(InString::Text);
            }
            (Some(InString::Text), b'\\') => self.string = Some(InString::AfterBackslash),
            (Some(InString::Text), b'"') => {
                self.string = None;
                return self.depth == 0;
            }
            (None, b'{' | b'[') => self.depth += 1,
            (None, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            (Some(InString::Text) | None, _) => {}
        }
        false
    }
}

impl RequestSplitter {
    /// Creates a splitter for requests of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            state: State::Body,
            open: None,
            text: Vec::new(),
            longest,
            field: String::new(),
            has_requests: false,
            unknown: BTreeSet::new(),
            at: 0,
        }
    }

    /// Takes the next piece of the body. Returns the requests that are complete with it.
    ///
    /// # Errors
    /// Returns a 400 for a body that is no object with a list of requests, and a 413 for a request
    /// that is too long.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, ApiError> {
        let mut found = Vec::new();
        for &byte in piece {
            self.byte(byte, &mut found)?;
            self.at += 1;
        }
        Ok(found)
    }

    /// Ends the body. Returns the names of its unknown fields.
    ///
    /// # Errors
    /// Returns a 400 for a body that is not complete or has no requests.
    pub(super) fn finish(self) -> Result<BTreeSet<String>, ApiError> {
        if self.state != State::End {
            return Err(self.broken("it ended early"));
        }
        if !self.has_requests {
            return Err(missing(REQUESTS.to_owned()));
        }
        Ok(self.unknown)
    }

    fn byte(&mut self, byte: u8, found: &mut Vec<Vec<u8>>) -> Result<(), ApiError> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if let Some(open) = &mut self.open {
            if !open.is_plain {
                let is_last = open.step(byte);
                self.keep(byte)?;
                return if is_last { self.close(found) } else { Ok(()) };
            }
            if !is_space && !matches!(byte, b',' | b'}' | b']') {
                return self.keep(byte);
            }
            self.close(found)?;
        }
        if is_space {
            return Ok(());
        }
        self.state = match (self.state, byte) {
            (State::Body, b'{') => State::Name { or_end: true },
            (State::Name { or_end: true } | State::AfterValue, b'}') => State::End,
            (State::Name { .. }, b'"') => return self.begin(Role::Name, byte),
            (State::Colon, b':') => State::Value,
            (State::Value, _) => return self.value(byte),
            (State::AfterValue, b',') => State::Name { or_end: false },
            (State::Request { or_end: true } | State::AfterRequest, b']') => State::AfterValue,
            (State::AfterRequest, b',') => State::Request { or_end: false },
            (State::Request { .. }, _) => return self.begin(Role::Request, byte),
            (state, _) => return Err(self.broken(state.expected())),
        };
        Ok(())
    }

    /// Begins the value of a field.
    fn value(&mut self, byte: u8) -> Result<(), ApiError> {
        if self.field != REQUESTS {
            return self.begin(Role::Other, byte);
        }
        if std::mem::replace(&mut self.has_requests, true) {
            let message = "Duplicate parameter: 'requests' occurs twice; send it once.";
            return Err(ApiError::invalid(REQUESTS, "duplicate_parameter", message));
        }
        if byte != b'[' {
            let message = "Invalid value for 'requests': expected an array.";
            return Err(ApiError::invalid(REQUESTS, "invalid_type", message));
        }
        self.state = State::Request { or_end: true };
        Ok(())
    }

    fn begin(&mut self, role: Role, first: u8) -> Result<(), ApiError> {
        if matches!(first, b',' | b':' | b'}' | b']') {
            return Err(self.broken(self.state.expected()));
        }
        self.open = Some(Open::new(role, first));
        self.keep(first)
    }

    /// Adds a byte to the text of the open value.
    fn keep(&mut self, byte: u8) -> Result<(), ApiError> {
        if self.text.len() == self.longest {
            let message = format!(
                "A request of the batch is too large. This server accepts at most {} bytes for each.",
                self.longest
            );
            let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message);
            return Err(error.about(REQUESTS).coded("request_too_large"));
        }
        self.text.push(byte);
        Ok(())
    }

    /// Ends the open value.
    fn close(&mut self, found: &mut Vec<Vec<u8>>) -> Result<(), ApiError> {
        let Some(Open { role, .. }) = self.open.take() else {
            return Ok(());
        };
        let text = std::mem::take(&mut self.text);
        self.state = match role {
            Role::Name => {
                let name = serde_json::from_slice(&text);
                self.field = name.map_err(|_| self.broken("an invalid name ends"))?;
                State::Colon
            }
            Role::Request => {
                found.push(text);
                State::AfterRequest
            }
            Role::Other => {
                let checked = serde_json::from_slice::<IgnoredAny>(&text);
                checked.map_err(|_| self.broken("an invalid value ends"))?;
                self.unknown.insert(std::mem::take(&mut self.field));
                State::AfterValue
            }
        };
        Ok(())
    }

    fn broken(&self, what: &str) -> ApiError {
        let message = format!(
            "We could not parse the JSON body of your request: {what} at byte {}.",
            self.at
        );
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }
}

impl State {
    /// Returns the expected input in words.
    fn expected(self) -> &'static str {
        match self {
            Self::Body => "expected an object",
            Self::Name { .. } => "expected the name of a field",
            Self::Colon => "expected ':'",
            Self::Value | Self::Request { .. } => "expected a value",
            Self::AfterValue => "expected ',' or '}'",
            Self::AfterRequest => "expected ',' or ']'",
            Self::End => "expected the end",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Splits a body that comes in pieces of this size.
    fn split(body: &str, size: usize) -> Result<(Vec<String>, Vec<String>), String> {
        let mut splitter = RequestSplitter::new(100);
        let mut found = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            let requests = splitter.push(piece).map_err(|error| error.error.message)?;
            found.extend(
                requests
                    .into_iter()
                    .map(|text| String::from_utf8(text).expect("UTF-8")),
            );
        }
        let unknown = splitter.finish().map_err(|error| error.error.message)?;
        Ok((found, unknown.into_iter().collect()))
    }

    #[test]
    fn requests_are_found_whatever_the_pieces_are() {
        for (body, requests, unknown) in [
            (r#"{"requests":[]}"#, vec![], vec![]),
            (r#" { "requests" : [ ] } "#, vec![], vec![]),
            (
                r#"{"requests": [{"a": 1}, {"b": [{}, "]}"]}]}"#,
                vec![r#"{"a": 1}"#, r#"{"b": [{}, "]}"]}"#],
                vec![],
            ),
            (
                r#"{"x":{"requests":[{"a":1}]},"requests":[{"a":"\\\"}é😀"},1,"s",[2] , null],"y":-1.5e3,"z":"]","ü":true}"#,
                vec![r#"{"a":"\\\"}é😀"}"#, "1", "\"s\"", "[2]", "null"],
                vec!["x", "y", "z", "ü"],
            ),
            // The name in other letters.
            (r#"{"\u0072equests":[{}]}"#, vec!["{}"], vec![]),
        ] {
            assert!(serde_json::from_str::<Value>(body).is_ok(), "{body}");
            for size in [1, 2, 3, 7, 1000] {
                let (found, names) = split(body, size).expect("a batch");
                assert_eq!(
                    (found, names),
                    (
                        requests.iter().map(|text| (*text).to_owned()).collect(),
                        unknown.iter().map(|text| (*text).to_owned()).collect()
                    ),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_refused_with_its_place() {
        for (body, what) in [
            ("", "it ended early at byte 0"),
            ("[]", "expected an object at byte 0"),
            ("{", "it ended early at byte 1"),
            ("{,}", "expected the name of a field at byte 1"),
            (r#"{"requests"[]}"#, "expected ':' at byte 11"),
            (r#"{"requests":[]"#, "it ended early"),
            (r#"{"requests":[{}"#, "it ended early"),
            (r#"{"requests":[{}{}]}"#, "expected ',' or ']' at byte 15"),
            (r#"{"requests":[,]}"#, "expected a value at byte 13"),
            (r#"{"requests":[{},]}"#, "expected a value at byte 16"),
            (
                r#"{"requests":[],}"#,
                "expected the name of a field at byte 15",
            ),
            (r#"{"requests":[]}x"#, "expected the end at byte 15"),
            (
                r#"{"requests":[],"x":y}"#,
                "an invalid value ends at byte 20",
            ),
            (r#"{"requests":[],"x":}"#, "expected a value at byte 19"),
            (
                r#"{"requests":[],"x":[1,]}"#,
                "an invalid value ends at byte 22",
            ),
            (r#"{"\x":1}"#, "an invalid name ends at byte 4"),
            (r#"{"requests":{}}"#, "'requests': expected an array"),
            (
                r#"{"requests":[],"requests":[]}"#,
                "'requests' occurs twice",
            ),
            (r#"{"x":1}"#, "requests"),
        ] {
            for size in [1, 1000] {
                let message = split(body, size).expect_err(body);
                assert!(message.contains(what), "{body}: {message}");
            }
        }
    }

    #[test]
    fn a_request_is_as_long_as_it_may_be() {
        let body = |length: usize| format!(r#"{{"requests":[{{}},"{}"]}}"#, "x".repeat(length - 2));
        assert!(split(&body(100), 8).is_ok());
        let message = split(&body(101), 8).expect_err("a long request");
        assert!(message.contains("at most 100 bytes"), "{message}");
        // Any other value that is too deep is refused too.
        let other = format!(r#"{{"requests":[],"x":[{}]}}"#, "[".repeat(200));
        assert!(split(&other, 8).is_err());
    }
}
