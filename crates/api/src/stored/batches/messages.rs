//! `/v1/messages/batches…`, Anthropic's API: a batch of messages. It is stored and made as a batch of
//! OpenAI's API whose input is a file with the requests (`create_messages.rs`). The client sees
//! neither this file nor that of the results among its files.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use loggia_wire::anthropic::{
    DeletedMessageBatch, MessageBatch, MessageBatchCounts, MessageBatchLine, MessageBatchPage,
    MessageBatchResult,
};
use loggia_wire::openai::Batch;
use serde_json::value::{RawValue, to_raw_value};

use super::finished_line::{FinishedLine, GivenUp, Outcome};
use super::stored;
use crate::messages::error;
use crate::messages::models::time;
use crate::store::{Filter, Kind, Object, Order, Page, StoreError};
use crate::stored::files::{Files, Head, StoredFile, answered};
use crate::stored::page;
use crate::{ApiError, Body};

/// The path that every request of a batch of messages is for.
pub(super) const ENDPOINT: &str = "/v1/messages";

/// The largest limit of a list, and the usual one.
const MOST_LISTED: i64 = 1000;
const USUALLY_LISTED: i64 = 20;

impl Files {
    /// `GET /v1/messages/batches`.
    pub(in crate::stored) async fn message_batches(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let limit = page::limit(&head.query, USUALLY_LISTED, 1, MOST_LISTED)?;
        let before = head.query.get("before_id");
        let part = Page {
            after: before.or(head.query.get("after_id")).map(str::to_owned),
            limit,
            order: match before {
                Some(_) => Order::Ascending,
                None => Order::Descending,
            },
        };
        let filter = Filter::default();
        let found = self
            .store
            .objects(&self.owner, Kind::MessageBatch, &filter, &part);
        let found = match found.await {
            Ok(found) => found,
            // Nothing follows a batch that was deleted. A list that began again would never end.
            Err(StoreError::AfterNotFound) => return answered(&MessageBatchPage::default(), ""),
            Err(error) => return Err(self.failed(&error)),
        };
        let mut data = Vec::with_capacity(found.data.len());
        for object in &found.data {
            data.push(shown(&self.batch_now(object).await?));
        }
        if before.is_some() {
            data.reverse();
        }
        let page = MessageBatchPage {
            has_more: found.has_more,
            first_id: data.first().map(|batch| batch.id.clone()),
            last_id: data.last().map(|batch| batch.id.clone()),
            data,
        };
        answered(&page, "")
    }

    /// `GET /v1/messages/batches/{message_batch_id}`.
    pub(in crate::stored) async fn message_batch(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let object = self.message_batch_object(head.route.id()).await?;
        answered(&shown(&self.batch_now(&object).await?), "")
    }

    /// `POST /v1/messages/batches/{message_batch_id}/cancel`.
    pub(in crate::stored) async fn cancel_message_batch(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        if stored(&self.message_batch_object(id).await?)?.has_ended() {
            return Err(refused(id, "it has ended, so it cannot be canceled"));
        }
        self.note_cancellation(Kind::MessageBatch, id).await?;
        self.message_batch(head).await
    }

    /// `DELETE /v1/messages/batches/{message_batch_id}`.
    pub(in crate::stored) async fn delete_message_batch(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        let stored = stored(&self.message_batch_object(id).await?)?;
        if !stored.has_ended() {
            let message = "it has not ended, so it cannot be deleted; cancel it first";
            return Err(refused(id, message));
        }
        let deleted = self.store.delete(self.at(Kind::MessageBatch, id)).await;
        deleted.map_err(|error| self.worded(&error, Kind::MessageBatch, id))?;
        self.delete_batch_contents(&stored.batch).await;
        let deleted = DeletedMessageBatch {
            id: stored.batch.id,
            kind: "message_batch_deleted".to_owned(),
        };
        answered(&deleted, "")
    }

    /// `GET /v1/messages/batches/{message_batch_id}/results`.
    pub(in crate::stored) async fn message_batch_results(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        let stored = stored(&self.message_batch_object(id).await?)?;
        if !stored.has_ended() {
            return Err(refused(
                id,
                "it has no results yet, because it has not ended",
            ));
        }
        let (body, length) = match &stored.batch.output_file_id {
            Some(output) => {
                let StoredFile { file, place, .. } =
                    self.find_of(Kind::BatchContent, output).await?;
                let pieces = self.blobs.read(&place, 0..file.bytes).await;
                let pieces = pieces.map_err(|error| self.failed(&error))?;
                (Body::content(pieces, file.bytes), file.bytes)
            }
            None => (Body::whole(Bytes::new()), 0),
        };
        let mut response = Response::new(body);
        let lines = HeaderValue::from_static("application/x-jsonl");
        response.headers_mut().insert(CONTENT_TYPE, lines);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        Ok(response)
    }

    /// Deletes the requests and the results of a batch that was deleted. If that fails, they are
    /// deleted when they expire.
    pub(super) async fn delete_batch_contents(&self, batch: &Batch) {
        self.delete_batch_content(&batch.input_file_id).await;
        if let Some(output) = &batch.output_file_id {
            self.delete_batch_content(output).await;
        }
    }

    pub(super) async fn delete_batch_content(&self, id: &str) {
        let Ok(StoredFile { place, .. }) = self.find_of(Kind::BatchContent, id).await else {
            return;
        };
        let deleted = self.store.delete(self.at(Kind::BatchContent, id)).await;
        if deleted.is_ok() {
            self.discard(&place).await;
        }
    }

    async fn message_batch_object(&self, id: &str) -> Result<Object, ApiError> {
        let object = self.store.object(self.at(Kind::MessageBatch, id)).await;
        object.map_err(|error| self.worded(&error, Kind::MessageBatch, id))
    }
}

/// Returns an error about a batch in its present state.
fn refused(id: &str, message: &str) -> ApiError {
    let message = format!("Batch '{id}': {message}.");
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// Returns a batch as Anthropic's API shows it.
pub(super) fn shown(batch: &Batch) -> MessageBatch {
    let ended_at = [
        batch.completed_at,
        batch.cancelled_at,
        batch.expired_at,
        batch.failed_at,
    ];
    let ended_at = ended_at.into_iter().flatten().next();
    let processing_status = match batch.status.as_str() {
        _ if ended_at.is_some() => "ended",
        "cancelling" => "canceling",
        _ => "in_progress",
    };
    MessageBatch {
        id: batch.id.clone(),
        kind: Kind::MessageBatch.as_str().to_owned(),
        processing_status: processing_status.to_owned(),
        request_counts: counts(batch, ended_at.is_some()),
        ended_at: ended_at.map(time),
        created_at: time(batch.created_at),
        expires_at: time(batch.expires_at),
        archived_at: None,
        cancel_initiated_at: batch.cancelling_at.map(time),
        // Without a host: a proxy may have another name for this server than the client has. The
        // SDKs add their base URL.
        results_url: ended_at.map(|_| format!("{ENDPOINT}/batches/{}/results", batch.id)),
    }
}

fn counts(batch: &Batch, has_ended: bool) -> MessageBatchCounts {
    let counts = &batch.request_counts;
    let mut shown = MessageBatchCounts::default();
    if has_ended {
        (shown.succeeded, shown.errored) = (counts.completed, counts.failed);
        let left = counts
            .total
            .saturating_sub(counts.completed + counts.failed);
        if batch.expired_at.is_some() {
            shown.expired = left;
        } else {
            shown.canceled = left;
        }
    } else {
        shown.processing = counts.total;
    }
    shown
}

/// Returns a line that is done as a line of the results.
pub(super) fn result(done: &FinishedLine) -> String {
    let not_made;
    let result = match &done.outcome {
        Outcome::Made { body, .. } if done.is_answer() => {
            MessageBatchResult::Succeeded { message: body }
        }
        Outcome::Made { body, .. } => MessageBatchResult::Errored { error: body },
        Outcome::NotMade { code, message } => {
            not_made = error_of(code, message);
            MessageBatchResult::Errored { error: &not_made }
        }
        Outcome::GivenUp(GivenUp::Cancelled) => MessageBatchResult::Canceled,
        Outcome::GivenUp(GivenUp::Expired) => MessageBatchResult::Expired,
    };
    let line = MessageBatchLine {
        custom_id: done.custom_id.as_deref().unwrap_or_default(),
        result,
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Returns the error of a request that was not made, in Anthropic's format.
fn error_of(code: &str, message: &str) -> Box<RawValue> {
    let status = match code {
        "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
        "invalid_api_key" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    let error = error::body(&ApiError::new(status, message), None);
    to_raw_value(&error).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_outcome_is_a_result_of_anthropics_api() {
        let made = |status, body: &str| Outcome::made("req_1".to_owned(), status, body.as_bytes());
        let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": null});
        for (outcome, result) in [
            (
                made(200, "{\"id\":1}"),
                json!({"type": "succeeded", "message": {"id": 1}}),
            ),
            (
                made(400, "{\"id\":1}"),
                json!({"type": "errored", "error": {"id": 1}}),
            ),
            (
                made(200, "{"),
                json!({"type": "errored", "error": error("api_error", "The answer is not valid JSON.")}),
            ),
            (
                Outcome::not_made("invalid_api_key", "no"),
                json!({"type": "errored", "error": error("authentication_error", "no")}),
            ),
            (
                Outcome::not_made("unsupported_parameter", "no"),
                json!({"type": "errored", "error": error("invalid_request_error", "no")}),
            ),
            (
                Outcome::GivenUp(GivenUp::Cancelled),
                json!({"type": "canceled"}),
            ),
            (
                Outcome::GivenUp(GivenUp::Expired),
                json!({"type": "expired"}),
            ),
        ] {
            let done = FinishedLine {
                number: 0,
                custom_id: Some("c".to_owned()),
                outcome,
            };
            let line: serde_json::Value =
                serde_json::from_str(&super::result(&done)).expect("JSON");
            assert_eq!(line, json!({"custom_id": "c", "result": result}));
        }
    }
}
