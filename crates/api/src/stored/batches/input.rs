//! The lines of an input file: read with bounded memory, and parsed one by one.

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use loggia_wire::openai::BatchError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::finished_line::{FinishedLine, Outcome};
use crate::store::StoreError;
use crate::store::blobs::Pieces;

/// The longest `custom_id`, in bytes.
const LONGEST_ID: usize = 512;

/// Reads the lines of a file.
pub(super) struct Lines {
    pieces: Pieces,
    buffer: BytesMut,
    /// How much of the buffer was searched for the end of the line.
    searched: usize,
    /// The number of the next line, from 0, and its place in the file.
    pub(super) next: u64,
    pub(super) offset: u64,
    /// The longest line, in bytes.
    longest: usize,
}

/// A line of a file.
pub(super) struct Line {
    /// The line's number, from 0.
    pub(super) number: u64,
    /// The line's offset in the file.
    pub(super) offset: u64,
    /// The line's text. `None` if the line is too long.
    pub(super) text: Option<Bytes>,
}

impl Lines {
    /// Reads lines from the pieces of a file. The first of them has this number and this place.
    pub(super) fn new(pieces: Pieces, next: u64, offset: u64, longest: usize) -> Self {
        Self {
            pieces,
            buffer: BytesMut::new(),
            searched: 0,
            next,
            offset,
            longest,
        }
    }

    /// Returns the next line that is not empty.
    pub(super) async fn line(&mut self) -> Result<Option<Line>, StoreError> {
        while let Some(line) = self.any_line().await? {
            let text = line.text.as_ref();
            if text.is_none_or(|text| !text.trim_ascii().is_empty()) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    async fn any_line(&mut self) -> Result<Option<Line>, StoreError> {
        let (number, offset) = (self.next, self.offset);
        let mut is_too_long = false;
        let (text, end) = loop {
            let unsearched = &self.buffer[self.searched..];
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let text = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                break (text, 1);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.longest {
                // The rest of the line is read, and dropped.
                is_too_long = true;
                self.offset += self.buffer.len() as u64;
                self.buffer.clear();
                self.searched = 0;
            }
            match self.pieces.try_next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() && !is_too_long => return Ok(None),
                None => break (self.buffer.split().freeze(), 0),
            }
        };
        self.searched = 0;
        self.next += 1;
        self.offset += text.len() as u64 + end;
        let text = Some(text).filter(|text| !is_too_long && text.len() <= self.longest);
        Ok(Some(Line {
            number,
            offset,
            text,
        }))
    }
}

/// A request of a batch.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) custom_id: String,
    pub(super) model: Option<String>,
    pub(super) body: Bytes,
}

/// The error of an invalid line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidLine {
    /// The client's id, if that could be read.
    pub(super) custom_id: Option<String>,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
}

impl InvalidLine {
    fn new(code: &'static str, param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            custom_id: None,
            code,
            message: message.into(),
            param,
        }
    }

    fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::new("missing_required_parameter", Some(param), message)
    }

    /// An id that another line has.
    pub(super) fn duplicate() -> Self {
        let message = "The custom_id for this request is a duplicate of another request. The custom_id must be unique for each request in a batch.";
        Self::new("duplicate_custom_id", Some("custom_id"), message)
    }

    /// Returns the line as one that is done.
    pub(super) fn done(self, number: u64) -> FinishedLine {
        FinishedLine {
            number,
            custom_id: self.custom_id,
            outcome: Outcome::not_made(self.code, self.message),
        }
    }

    /// Returns the error in the form of the batch's list of errors.
    pub(super) fn listed(self, line: u64) -> BatchError {
        BatchError {
            code: self.code.to_owned(),
            message: self.message,
            param: self.param.map(str::to_owned),
            line: Some(line + 1),
        }
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(default)]
    custom_id: Value,
    #[serde(default)]
    method: Value,
    #[serde(default)]
    url: Value,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// The fields of a request that the batch itself reads.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    model: Value,
    #[serde(default)]
    stream: Value,
    #[serde(default)]
    background: Value,
}

/// Parses a line of a batch for an endpoint.
pub(super) fn parse(text: Option<&Bytes>, endpoint: &str) -> Result<Request, InvalidLine> {
    let Some(text) = text else {
        let message = "This line is too long.";
        return Err(InvalidLine::new("line_too_long", None, message));
    };
    let Ok(mut fields) = serde_json::from_slice::<Fields<'_>>(text) else {
        let message = "This line is not parseable as valid JSON.";
        return Err(InvalidLine::new("invalid_json_line", None, message));
    };
    let custom_id = custom_id(fields.custom_id.take())?;
    match work(&fields, endpoint) {
        Ok((model, body)) => Ok(Request {
            custom_id,
            model,
            body,
        }),
        Err(invalid) => Err(InvalidLine {
            custom_id: Some(custom_id),
            ..invalid
        }),
    }
}

fn custom_id(value: Value) -> Result<String, InvalidLine> {
    match value {
        Value::String(id) if !id.is_empty() && id.len() <= LONGEST_ID => Ok(id),
        Value::Null => Err(InvalidLine::missing("custom_id")),
        _ => {
            let message =
                format!("Invalid 'custom_id': expected a string with 1 to {LONGEST_ID} bytes.");
            Err(InvalidLine::new(
                "invalid_value",
                Some("custom_id"),
                message,
            ))
        }
    }
}

/// Returns the model and the body of the request of a line.
fn work(fields: &Fields<'_>, endpoint: &str) -> Result<(Option<String>, Bytes), InvalidLine> {
    if fields.method != "POST" {
        let message = "Invalid 'method': only 'POST' is supported.";
        return Err(InvalidLine::new("invalid_method", Some("method"), message));
    }
    if fields.url.is_null() {
        return Err(InvalidLine::missing("url"));
    }
    if fields.url != endpoint {
        let message = format!("Invalid 'url': expected '{endpoint}', the endpoint of the batch.");
        return Err(InvalidLine::new("invalid_url", Some("url"), message));
    }
    let body = fields.body.ok_or_else(|| InvalidLine::missing("body"))?;
    let Ok(head) = serde_json::from_str::<Head>(body.get()) else {
        let message = "Invalid type for 'body': expected an object.";
        return Err(InvalidLine::new("invalid_type", Some("body"), message));
    };
    for (param, value) in [
        ("body.stream", head.stream),
        ("body.background", head.background),
    ] {
        if value == true {
            let message = format!("'{param}' is not supported in a batch.");
            let code = "unsupported_parameter";
            return Err(InvalidLine::new(code, Some(param), message));
        }
    }
    let body = Bytes::copy_from_slice(body.get().as_bytes());
    Ok((head.model.as_str().map(str::to_owned), body))
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    /// The numbers, places and texts of all lines.
    async fn lines(text: &[u8], piece: usize, longest: usize) -> Vec<(u64, u64, Option<Bytes>)> {
        let pieces: Vec<_> = text
            .chunks(piece)
            .map(|some| Ok(Bytes::copy_from_slice(some)))
            .collect();
        let mut lines = Lines::new(stream::iter(pieces).boxed(), 0, 0, longest);
        let mut all = Vec::new();
        while let Some(line) = lines.line().await.expect("a line") {
            all.push((line.number, line.offset, line.text));
        }
        assert_eq!(lines.offset, text.len() as u64);
        all
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_pieces_end() {
        let text = b"a\r\n\n  \nbb\nccccccc\ndd";
        let line = |number, offset, text: &'static str| (number, offset, Some(Bytes::from(text)));
        for piece in 1..=text.len() {
            let found = lines(text, piece, 5).await;
            let expected = [
                line(0, 0, "a\r"),
                line(3, 7, "bb"),
                (4, 10, None),
                line(5, 18, "dd"),
            ];
            assert_eq!(found, expected, "{piece}");
        }
        assert!(lines(b"", 1, 5).await.is_empty());
        assert!(lines(b"\n\n", 1, 5).await.is_empty());
    }

    #[test]
    fn a_line_is_a_request_or_says_what_is_wrong() {
        let good = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","x":1}}"#;
        let request = parse(Some(&Bytes::from(good)), CHAT).expect("a request");
        assert_eq!(
            (request.custom_id.as_str(), request.model.as_deref()),
            ("a", Some("m"))
        );
        assert_eq!(request.body, r#"{"model":"m","x":1}"#);
        let known = Some("a".to_owned());
        for (line, custom_id, code, param) in [
            ("{", None, "invalid_json_line", None),
            ("[]", None, "invalid_json_line", None),
            ("{}", None, "missing_required_parameter", Some("custom_id")),
            (
                r#"{"custom_id":1}"#,
                None,
                "invalid_value",
                Some("custom_id"),
            ),
            (
                r#"{"custom_id":""}"#,
                None,
                "invalid_value",
                Some("custom_id"),
            ),
            (
                r#"{"custom_id":"a"}"#,
                known.clone(),
                "invalid_method",
                Some("method"),
            ),
            (
                r#"{"custom_id":"a","method":"GET"}"#,
                known.clone(),
                "invalid_method",
                Some("method"),
            ),
            (
                r#"{"custom_id":"a","method":"POST"}"#,
                known.clone(),
                "missing_required_parameter",
                Some("url"),
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings"}"#,
                known.clone(),
                "invalid_url",
                Some("url"),
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions"}"#,
                known.clone(),
                "missing_required_parameter",
                Some("body"),
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":3}"#,
                known.clone(),
                "invalid_type",
                Some("body"),
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"stream":true}}"#,
                known,
                "unsupported_parameter",
                Some("body.stream"),
            ),
        ] {
            let wrong = parse(Some(&Bytes::from(line)), CHAT).expect_err(line);
            assert_eq!(
                (wrong.custom_id, wrong.code, wrong.param),
                (custom_id, code, param),
                "{line}"
            );
        }
        assert_eq!(
            parse(None, CHAT).expect_err("too long").code,
            "line_too_long"
        );
    }
}
