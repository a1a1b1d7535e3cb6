//! `POST /v1/messages/batches`: receives a batch of messages. Each request is checked and written as a
//! line of an input file while the next ones arrive.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;

use bytes::{Buf, Bytes};
use http::Response;
use loggia_wire::Extra;
use loggia_wire::anthropic::MessageBatchRequest;
use loggia_wire::openai::Batch;
use serde_json::json;

use super::messages::{ENDPOINT, shown};
use super::split_requests::RequestSplitter;
use super::{KEPT_SECONDS, Progress, StoredBatch, WINDOW_SECONDS, new_batch, schedule};
use crate::admit::parse::{tracked, wrong_at};
use crate::answer::id;
use crate::door::policy::FileLimits;
use crate::door::read::JsonPieces;
use crate::store::blobs::BlobWriter;
use crate::store::{Change, Kind, Metadata, Object};
use crate::stored::damaged;
use crate::stored::files::{Files, Head, StoredFile, answered, creation, new_file};
use crate::{ApiError, Body, Policy};

/// The maximum number of requests of a batch, the longest `custom_id`, and the most bytes, as in
/// Anthropic's API.
const MOST_REQUESTS: usize = 100_000;
const LONGEST_ID: usize = 64;
const MOST_BYTES: u64 = 256 << 20;

/// The bytes of requests that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

impl Files {
    pub(in crate::stored) async fn create_message_batch<B>(
        &self,
        head: &Head<'_>,
        body: B,
        policy: &Policy,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let limit = self.limit(MOST_BYTES).await?;
        let mut pieces = JsonPieces::new(&head.parts.headers, body, limit, policy).await?;
        let input = id::file();
        let (place, writer) = self.begin(&format!("files/{input}")).await?;
        let mut requests = RequestWriter::new(self, writer, policy.body_limit);
        while let Some(piece) = pieces.next().await? {
            requests.push(&piece).await?;
        }
        let Written {
            writer,
            bytes,
            total,
            unknown,
        } = requests.finish().await?;
        let ignored = head.unknown(&unknown)?;
        let lasts = Some(WINDOW_SECONDS + KEPT_SECONDS);
        let name = "requests.jsonl".to_owned();
        let content = StoredFile {
            file: new_file(input.clone(), bytes, name, "batch".to_owned(), lasts),
            place,
            media_type: None,
        };
        let mut batch = new_batch(input, ENDPOINT.to_owned());
        batch.id = id::message_batch();
        // The requests were checked above.
        batch.status = "in_progress".into();
        batch.in_progress_at = Some(batch.created_at);
        batch.request_counts.total = total;
        let changes = self.changes(&batch, &content)?;
        let done = self.store(writer, content.place, changes).await;
        done.map_err(|error| self.failed(&error))?;
        answered(&shown(&batch), &ignored)
    }

    /// Returns the changes that store a new batch and its requests.
    fn changes(&self, batch: &Batch, content: &StoredFile) -> Result<Vec<Change>, ApiError> {
        let stored = StoredBatch {
            batch: batch.clone(),
            lasts: None,
            progress: Progress::default(),
        };
        let object = Object {
            kind: Kind::MessageBatch,
            id: batch.id.clone(),
            created: batch.created_at,
            model: None,
            metadata: Metadata::new(),
            body: serde_json::to_string(&stored).map_err(|_| damaged())?,
            previous: None,
            is_held: false,
        };
        let mut changes = vec![Change::Limit {
            // Of the content and of the batch.
            more: content.file.bytes + 2 * FileLimits::OVERHEAD,
            most: self.limits.key_bytes,
        }];
        changes.extend(creation(Kind::BatchContent, content, None)?);
        changes.push(Change::Create {
            object,
            items: Vec::new(),
        });
        changes.push(schedule(Kind::MessageBatch, &batch.id, batch.created_at));
        Ok(changes)
    }
}

/// Writes the requests of a body as lines.
struct RequestWriter<'a> {
    files: &'a Files,
    writer: Box<dyn BlobWriter>,
    splitter: RequestSplitter,
    ids: HashSet<String>,
    /// The unknown fields of requests.
    unknown: BTreeSet<String>,
    lines: Vec<u8>,
    /// The bytes that are written.
    bytes: u64,
}

/// All requests of a body.
struct Written {
    writer: Box<dyn BlobWriter>,
    bytes: u64,
    total: u64,
    /// The unknown fields.
    unknown: Extra,
}

impl<'a> RequestWriter<'a> {
    fn new(files: &'a Files, writer: Box<dyn BlobWriter>, longest_request: usize) -> Self {
        Self {
            files,
            writer,
            splitter: RequestSplitter::new(longest_request),
            ids: HashSet::new(),
            unknown: BTreeSet::new(),
            lines: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes the next piece of the body.
    async fn push(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        for text in self.splitter.push(piece)? {
            let request = self.checked(&text)?;
            write_line(&mut self.lines, &request)?;
            if self.lines.len() >= WRITTEN_AT_ONCE {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ApiError> {
        self.bytes += self.lines.len() as u64;
        let lines = Bytes::from(std::mem::take(&mut self.lines));
        let written = self.writer.write(lines).await;
        written.map_err(|error| self.files.failed(&error))
    }

    /// Parses and checks a request.
    fn checked(&mut self, text: &[u8]) -> Result<MessageBatchRequest, ApiError> {
        let index = self.ids.len();
        if index == MOST_REQUESTS {
            return Err(wrong_number());
        }
        let place = format!("requests[{index}]");
        let request: MessageBatchRequest =
            tracked(text).map_err(|error| match error.error.param {
                Some(_) => wrong_at(&place, error),
                None => refused(place.clone(), &error.error.message),
            })?;
        let custom_id = &request.custom_id;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=LONGEST_ID).contains(&custom_id.len()) || !custom_id.bytes().all(is_allowed) {
            let message = format!("expected 1 to {LONGEST_ID} letters, digits, '_' and '-'");
            return Err(refused(format!("{place}.custom_id"), &message));
        }
        if !self.ids.insert(custom_id.clone()) {
            let message = "another request of the batch has this id";
            return Err(refused(format!("{place}.custom_id"), message));
        }
        if !request.params.0.starts_with('{') {
            return Err(refused(format!("{place}.params"), "expected an object"));
        }
        for name in request.extra.keys() {
            self.unknown.insert(format!("requests[].{name}"));
        }
        Ok(request)
    }

    /// Ends the body.
    async fn finish(mut self) -> Result<Written, ApiError> {
        if !self.lines.is_empty() {
            self.write().await?;
        }
        let names = self.splitter.finish()?;
        if self.ids.is_empty() {
            return Err(wrong_number());
        }
        let names = names.into_iter().chain(self.unknown);
        Ok(Written {
            writer: self.writer,
            bytes: self.bytes,
            total: self.ids.len() as u64,
            unknown: names.map(|name| (name, true.into())).collect(),
        })
    }
}

fn wrong_number() -> ApiError {
    let message = format!("a batch has 1 to {MOST_REQUESTS} requests");
    refused("requests".to_owned(), &message)
}

fn refused(param: String, message: &str) -> ApiError {
    let message = format!("{param}: {message}");
    ApiError::invalid(param, "invalid_value", message)
}

/// Writes a request as a line of an input file.
fn write_line(lines: &mut Vec<u8>, request: &MessageBatchRequest) -> Result<(), ApiError> {
    let line = json!({"custom_id": request.custom_id, "method": "POST", "url": ENDPOINT});
    serde_json::to_writer(&mut *lines, &line).map_err(|_| damaged())?;
    // The body comes last, in the place of the closing brace.
    lines.pop();
    lines.extend_from_slice(b",\"body\":");
    // In JSON, line ends occur only between values.
    let body = request.params.0.bytes();
    lines.extend(body.map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    lines.extend_from_slice(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::batches::input::parse;

    fn request(params: &str) -> MessageBatchRequest {
        let request = format!("{{\"custom_id\": \"a\", \"params\": {params}}}");
        serde_json::from_str(&request).expect("a request")
    }

    #[test]
    fn a_request_is_written_as_one_line_with_its_own_text() {
        let params = "{\r\n \"model\":\t\"m\",\n \"x\": 1.0000000000000000000001, \"y\": \"\\n\"}";
        let mut lines = Vec::new();
        write_line(&mut lines, &request(params)).expect("a line");
        let newline = lines.iter().position(|byte| *byte == b'\n');
        assert_eq!(newline, Some(lines.len() - 1));
        let line = Bytes::from(lines).slice(..);
        let parsed = parse(Some(&line), ENDPOINT).expect("a request");
        assert_eq!(parsed.custom_id, "a");
        assert_eq!(parsed.model.as_deref(), Some("m"));
        let flat = params.replace(['\r', '\n', '\t'], " ");
        assert_eq!(parsed.body, flat.as_bytes());
    }
}
