//! The lines of a batch that are done, and the files that they become.

use bytes::Bytes;
use loggia_wire::openai::{Batch, BatchLine, BatchLineError, BatchResponse, BatchUsage};
use serde_json::Value;
use serde_json::value::RawValue;

use super::line::AnsweredLine;
use super::run::{End, Run, Stop};
use super::{ERRORS, KEPT_SECONDS, schedule};
use crate::answer::id;
use crate::store::{Change, Item, Kind, Order, Page, Side};
use crate::stored::files::{StoredFile, creation, new_file};

/// How many lines are read at once.
const AT_ONCE: usize = 200;

/// A line that is done.
pub(super) struct Done {
    /// Its number, from 0.
    pub(super) number: u64,
    /// The line of the output.
    json: String,
    /// The usage of its answer. `None` for an error.
    usage: Option<BatchUsage>,
}

impl From<Done> for AnsweredLine {
    fn from(done: Done) -> Self {
        Self {
            json: done.json,
            is_answer: done.usage.is_some(),
        }
    }
}

impl Done {
    /// Counts the line, and returns it as an item.
    pub(super) fn counted(self, batch: &mut Batch) -> Item {
        let counts = &mut batch.request_counts;
        let side = if let Some(usage) = self.usage {
            counts.completed += 1;
            add(&mut batch.usage, &usage);
            Side::Output
        } else {
            counts.failed += 1;
            ERRORS
        };
        Item {
            id: format!("line-{}", self.number),
            body: self.json,
            side,
        }
    }
}

/// A request that was answered, maybe with an error.
pub(super) fn made(
    number: u64,
    custom_id: &str,
    request_id: &str,
    status: u16,
    body: &str,
) -> Done {
    let Ok(raw) = serde_json::from_str::<&RawValue>(body) else {
        let message = "The answer is not valid JSON.";
        return not_made(number, Some(custom_id), "server_error", message);
    };
    let is_answer = (200..300).contains(&status);
    let line = BatchLine {
        id: id::item("batch_req_"),
        custom_id: Some(custom_id),
        response: Some(BatchResponse {
            status_code: status,
            request_id,
            body: raw,
        }),
        error: None,
    };
    Done {
        number,
        json: serde_json::to_string(&line).unwrap_or_default(),
        usage: is_answer.then(|| usage_of(body)),
    }
}

/// A request that was not made.
pub(super) fn not_made(number: u64, custom_id: Option<&str>, code: &str, message: &str) -> Done {
    let line = BatchLine {
        id: id::item("batch_req_"),
        custom_id,
        response: None,
        error: Some(BatchLineError { code, message }),
    };
    Done {
        number,
        json: serde_json::to_string(&line).unwrap_or_default(),
        usage: None,
    }
}

/// Returns the usage of an answer, whichever API it is of.
fn usage_of(body: &str) -> BatchUsage {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let usage = &body["usage"];
    let number = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| usage.pointer(name)?.as_u64());
        found.unwrap_or_default()
    };
    let mut found = BatchUsage {
        input_tokens: number(["/input_tokens", "/prompt_tokens"]),
        output_tokens: number(["/output_tokens", "/completion_tokens"]),
        ..BatchUsage::default()
    };
    found.input_tokens_details.cached_tokens = number([
        "/input_tokens_details/cached_tokens",
        "/prompt_tokens_details/cached_tokens",
    ]);
    found.output_tokens_details.reasoning_tokens = number([
        "/output_tokens_details/reasoning_tokens",
        "/completion_tokens_details/reasoning_tokens",
    ]);
    found.total_tokens = found.input_tokens + found.output_tokens;
    found
}

fn add(sum: &mut BatchUsage, more: &BatchUsage) {
    sum.input_tokens += more.input_tokens;
    sum.input_tokens_details.cached_tokens += more.input_tokens_details.cached_tokens;
    sum.output_tokens += more.output_tokens;
    sum.output_tokens_details.reasoning_tokens += more.output_tokens_details.reasoning_tokens;
    sum.total_tokens += more.total_tokens;
}

impl Run<'_> {
    /// Writes the files, and ends the batch together with their rows.
    pub(super) async fn finish(&mut self, end: End) -> Result<(), Stop> {
        let output = self.file(Side::Output, "output").await?;
        let errors = self.file(ERRORS, "error").await;
        if let (Some(output), Err(_)) = (&output, &errors) {
            // The next attempt writes it again.
            self.files.discard(&output.place).await;
        }
        let errors = errors?;
        let now = id::now();
        let batch = &mut self.stored.batch;
        let id_of = |file: &Option<StoredFile>| file.as_ref().map(|one| one.file.id.clone());
        (batch.output_file_id, batch.error_file_id) = (id_of(&output), id_of(&errors));
        match end {
            End::Completed => {
                batch.status = "completed".into();
                batch.completed_at = Some(now);
            }
            End::Expired => {
                batch.status = "expired".into();
                batch.expired_at = Some(now);
            }
            End::Cancelled(at) => {
                batch.status = "cancelled".into();
                (batch.cancelling_at, batch.cancelled_at) = (Some(at), Some(now));
            }
        }
        let mut changes = vec![self.replaced(Vec::new())?];
        for stored in output.iter().chain(&errors) {
            changes.extend(creation(stored, None)?);
        }
        let id = self.id().to_owned();
        changes.push(schedule(&id, now + KEPT_SECONDS));
        // The lines are in the files now.
        changes.push(Change::Clear {
            kind: Kind::Batch,
            id,
        });
        let done = self.commit(changes).await;
        if done.is_err() {
            for stored in output.iter().chain(&errors) {
                self.files.discard(&stored.place).await;
            }
        }
        done
    }

    /// Writes the lines of one side, in the order in which they were done. `None` without lines.
    async fn file(&mut self, side: Side, name: &str) -> Result<Option<StoredFile>, Stop> {
        let mut page = Page {
            after: None,
            limit: AT_ONCE,
            order: Order::Ascending,
        };
        let file_id = id::file();
        let (mut writing, mut bytes) = (None, 0);
        loop {
            let at = self.files.at(Kind::Batch, &self.stored.batch.id);
            let part = self.files.store.items(at, side, &page).await?;
            let Some(last) = part.data.last() else { break };
            page.after = Some(last.id.clone());
            let (_, writer) = match &mut writing {
                Some(writing) => writing,
                None => writing.insert(self.files.begin(&format!("files/{file_id}")).await?),
            };
            for item in part.data {
                let line = Bytes::from(item.body + "\n");
                bytes += line.len() as u64;
                writer.write(line).await?;
            }
            self.renew().await?;
            if !part.has_more {
                break;
            }
        }
        let Some((place, writer)) = writing else {
            return Ok(None);
        };
        writer.finish().await?;
        let lasts = self.stored.lasts.unwrap_or(KEPT_SECONDS);
        let name = format!("{}_{name}.jsonl", self.id());
        let purpose = "batch_output".to_owned();
        let file = new_file(file_id, bytes, name, purpose, Some(lasts));
        Ok(Some(StoredFile { file, place }))
    }
}
