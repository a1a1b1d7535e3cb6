//! Batches, `/v1/batches…` and Anthropic's `/v1/messages/batches…`: requests that are made in the
//! background.
//!
//! `work.rs` finds batches to run, `run.rs` runs one batch for some time, and `worker.rs` decides
//! how many of its lines may run. `input.rs` reads the lines, `send.rs` makes the request of one,
//! `finished_line.rs` is its result, and `output.rs` writes the files with the answers. `line.rs`
//! runs one line without a store. `messages.rs` has the routes of Anthropic's API;
//! `create_messages.rs` and `split_requests.rs` receive such a batch. It runs like every other
//! batch, and only its results are written differently. A batch is an object of the store that is
//! due until it has ended. Its items are the finished lines. So a line and the progress of the
//! batch are stored together, and no line is done twice.

mod create_messages;
mod finished_line;
mod input;
mod line;
mod messages;
mod output;
mod run;
mod send;
mod split_requests;
mod work;
mod worker;

use http::Response;
use loggia_wire::openai::{Batch, BatchCounts, BatchUsage, CreateBatch, Page};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{Files, Head, answered, seconds};
use super::{damaged, metadata, page};
use crate::admit::checks::one_of;
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::door::policy::FileLimits;
use crate::store::{
    Change, Filter, Item, Kind, Metadata, Object, Order, Page as Part, Side, StoreError,
};
use crate::{ApiError, Body};

pub use line::AnsweredLine;
pub use send::AnswerLine;
pub use worker::{BatchWork, FindCaller};

/// The routes that a batch can be for.
const ENDPOINTS: &[&str] = &[
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
];

/// The time within which a batch is processed, and its seconds.
const WINDOW: &str = "24h";
const WINDOW_SECONDS: u64 = 24 * 3600;

/// How long a batch is kept after its end: 30 days.
const KEPT_SECONDS: u64 = 30 * 24 * 3600;

/// The item by which a client cancels a batch: another server may be at work on the batch itself.
const CANCEL: &str = "cancel";

/// The side of the lines of the error file. Those of the output file are on [`Side::Output`].
const ERRORS: Side = Side::Stream;

/// The stored form of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredBatch {
    #[serde(flatten)]
    batch: Batch,
    /// How long the files with the answers are kept, in seconds.
    lasts: Option<u64>,
    progress: Progress,
}

/// How far a batch has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// The number of the first line that is not done, from 0, and its place in the file.
    next: u64,
    offset: u64,
    /// The numbers of later lines that are done.
    done: Vec<u64>,
}

/// The item by which a batch is cancelled.
#[derive(Debug, Serialize, Deserialize)]
struct Cancel {
    at: u64,
}

impl Files {
    /// `POST /v1/batches`.
    pub(super) async fn create_batch(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let CreateBatch {
            input_file_id,
            endpoint,
            completion_window,
            output_expires_after,
            metadata,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        one_of("endpoint", Some(&endpoint), ENDPOINTS)?;
        one_of("completion_window", Some(&completion_window), &[WINDOW])?;
        let metadata = metadata::checked(metadata)?;
        let expires = output_expires_after.as_ref();
        let lasts = expires.map(|expires| seconds(expires, "output_expires_after"));
        let input = self.find(&input_file_id).await;
        let input = input.map_err(|error| error.about("input_file_id"))?.file;
        if input.purpose != "batch" {
            let message = format!(
                "Invalid value for 'input_file_id': the file has the purpose '{}'. Upload it with the purpose 'batch'.",
                input.purpose
            );
            return Err(ApiError::invalid("input_file_id", "invalid_value", message));
        }
        let batch = new_batch(input_file_id, endpoint);
        let created_at = batch.created_at;
        let stored = StoredBatch {
            batch,
            lasts: lasts.transpose()?,
            progress: Progress::default(),
        };
        let object = Object {
            kind: Kind::Batch,
            id: stored.batch.id.clone(),
            created: created_at,
            model: None,
            metadata,
            body: serde_json::to_string(&stored).map_err(|_| damaged())?,
            previous: None,
            is_held: false,
        };
        let changes = vec![
            Change::Limit {
                more: FileLimits::OVERHEAD,
                most: self.limits.key_bytes,
            },
            Change::Create {
                object: object.clone(),
                items: Vec::new(),
            },
            schedule(Kind::Batch, &stored.batch.id, created_at),
        ];
        let written = self.store.write(&self.owner, changes).await;
        written.map_err(|error| self.failed(&error))?;
        answered(&shown(stored.batch, object.metadata)?, &ignored)
    }

    /// `GET /v1/batches`.
    pub(super) async fn batches(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let part = page::of(&head.query, Order::Descending)?;
        let filter = Filter::default();
        let found = self.store.objects(&self.owner, Kind::Batch, &filter, &part);
        let found = found.await.map_err(|error| match error {
            StoreError::AfterNotFound => {
                let after = head.query.get("after").unwrap_or_default();
                self.worded(&StoreError::NotFound, Kind::Batch, after)
                    .about("after")
            }
            error => self.failed(&error),
        })?;
        let mut batches = Vec::with_capacity(found.data.len());
        for object in found.data {
            batches.push((object.id.clone(), self.shown_now(object).await?));
        }
        answered(&Page::new(batches, found.has_more), "")
    }

    /// `GET /v1/batches/{batch_id}`.
    pub(super) async fn batch(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let object = self.batch_object(head.route.id()).await?;
        answered(&self.shown_now(object).await?, "")
    }

    /// `POST /v1/batches/{batch_id}/cancel`.
    pub(super) async fn cancel_batch(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        let stored = stored(&self.batch_object(id).await?)?;
        if stored.has_ended() {
            let status = stored.batch.status;
            let message = format!("Cannot cancel a batch with status '{status}'.");
            return Err(ApiError::invalid("batch_id", "invalid_value", message));
        }
        self.note_cancellation(Kind::Batch, id).await?;
        let object = self.batch_object(id).await?;
        answered(&self.shown_now(object).await?, "")
    }

    /// Stores that a batch is cancelled. It may be cancelled already.
    async fn note_cancellation(&self, kind: Kind, id: &str) -> Result<(), ApiError> {
        let cancel = Cancel { at: id::now() };
        let append = Change::Append {
            kind,
            id: id.to_owned(),
            items: vec![Item {
                id: CANCEL.to_owned(),
                body: serde_json::to_string(&cancel).map_err(|_| damaged())?,
                side: Side::Input,
            }],
        };
        match self.store.write(&self.owner, vec![append]).await {
            Ok(()) | Err(StoreError::Duplicate { .. }) => Ok(()),
            Err(error) => Err(self.worded(&error, kind, id)),
        }
    }

    async fn batch_object(&self, id: &str) -> Result<Object, ApiError> {
        let object = self.store.object(self.at(Kind::Batch, id)).await;
        object.map_err(|error| self.worded(&error, Kind::Batch, id))
    }

    /// Returns when a batch was cancelled, if it was.
    async fn cancelled(&self, kind: Kind, id: &str) -> Result<Option<u64>, StoreError> {
        let first = Part {
            after: None,
            limit: 1,
            order: Order::Ascending,
        };
        let at = self.at(kind, id);
        let found = self.store.items(at, Side::Input, &first).await?.data;
        let cancel = found
            .first()
            .map(|item| serde_json::from_str::<Cancel>(&item.body));
        Ok(cancel.map(|cancel| cancel.map_or_else(|_| id::now(), |cancel| cancel.at)))
    }

    /// Returns a batch as it is answered.
    async fn shown_now(&self, object: Object) -> Result<Map<String, Value>, ApiError> {
        shown(self.batch_now(&object).await?, object.metadata)
    }

    /// Returns a batch, which is being cancelled also if no server has noticed that yet.
    async fn batch_now(&self, object: &Object) -> Result<Batch, ApiError> {
        let StoredBatch { mut batch, .. } = stored(object)?;
        if is_waiting(&batch.status) {
            let cancelled = self.cancelled(object.kind, &batch.id).await;
            if let Some(at) = cancelled.map_err(|error| self.failed(&error))? {
                batch.status = "cancelling".into();
                batch.cancelling_at = Some(at);
            }
        }
        Ok(batch)
    }
}

impl StoredBatch {
    fn has_ended(&self) -> bool {
        let ends = ["completed", "failed", "expired", "cancelled"];
        ends.contains(&self.batch.status.as_str())
    }
}

/// Whether a batch with this status can still be cancelled.
fn is_waiting(status: &str) -> bool {
    matches!(status, "validating" | "in_progress")
}

/// Returns a new batch.
fn new_batch(input_file_id: String, endpoint: String) -> Batch {
    let created_at = id::now();
    Batch {
        id: id::batch(),
        object: Kind::Batch.as_str().to_owned(),
        endpoint,
        model: None,
        errors: None,
        input_file_id,
        completion_window: WINDOW.to_owned(),
        status: "validating".to_owned(),
        output_file_id: None,
        error_file_id: None,
        created_at,
        in_progress_at: None,
        expires_at: created_at + WINDOW_SECONDS,
        finalizing_at: None,
        completed_at: None,
        failed_at: None,
        expired_at: None,
        cancelling_at: None,
        cancelled_at: None,
        request_counts: BatchCounts::default(),
        usage: BatchUsage::default(),
    }
}

fn stored(object: &Object) -> Result<StoredBatch, ApiError> {
    serde_json::from_str(&object.body).map_err(|_| damaged())
}

/// Returns a batch as it is answered.
fn shown(batch: Batch, metadata: Metadata) -> Result<Map<String, Value>, ApiError> {
    let Ok(Value::Object(mut shown)) = serde_json::to_value(batch) else {
        return Err(damaged());
    };
    let metadata = if metadata.is_empty() {
        Value::Null
    } else {
        Value::Object(
            metadata
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
        )
    };
    shown.insert("metadata".to_owned(), metadata);
    Ok(shown)
}

/// Returns the change that makes a batch due at a time.
fn schedule(kind: Kind, id: &str, due: u64) -> Change {
    Change::Schedule {
        kind,
        id: id.to_owned(),
        due: Some(due),
        content: FileLimits::OVERHEAD,
    }
}
