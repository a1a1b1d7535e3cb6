//! Batches of messages, `/v1/messages/batches`: the request, the batch, its list and its results.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::JsonText;
use crate::object::object;

object! {
    /// A request of a batch: an entry of `requests` of `POST /v1/messages/batches`.
    pub struct MessageBatchRequest {
        /// The client's id of the request, which no other request of the batch has.
        required custom_id: String = "custom_id",
        /// The body of a request of `POST /v1/messages`.
        required params: JsonText = "params",
    }
}

/// A batch of messages. All times are in the format of RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBatch {
    /// The id.
    pub id: String,
    /// Always `message_batch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `in_progress`, `canceling` or `ended`.
    pub processing_status: String,
    /// The number of requests in each state.
    pub request_counts: MessageBatchCounts,
    /// When all requests were done. `None` before that.
    pub ended_at: Option<String>,
    /// When the batch was created.
    pub created_at: String,
    /// When requests that were not made are given up.
    pub expires_at: String,
    /// When the results were deleted.
    pub archived_at: Option<String>,
    /// When the client canceled the batch.
    pub cancel_initiated_at: Option<String>,
    /// The URL of the results, once the batch has ended.
    pub results_url: Option<String>,
}

/// The number of requests of a batch in each state. Until the batch has ended, all are processing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBatchCounts {
    /// The requests that may not be done.
    pub processing: u64,
    /// The requests that were answered with a message.
    pub succeeded: u64,
    /// The requests that were answered with an error.
    pub errored: u64,
    /// The requests that were not made because the batch was canceled.
    pub canceled: u64,
    /// The requests that were not made in time.
    pub expired: u64,
}

/// A page of a list of batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageBatchPage {
    /// The batches.
    pub data: Vec<MessageBatch>,
    /// Whether another page follows.
    pub has_more: bool,
    /// The id of the first batch.
    pub first_id: Option<String>,
    /// The id of the last batch.
    pub last_id: Option<String>,
}

/// The answer to the deletion of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedMessageBatch {
    /// The id.
    pub id: String,
    /// Always `message_batch_deleted`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A line of the results of a batch.
#[derive(Debug, Serialize)]
pub struct MessageBatchLine<'a> {
    /// The client's id of the request.
    pub custom_id: &'a str,
    /// The result of the request.
    pub result: MessageBatchResult<'a>,
}

/// The result of a request of a batch.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessageBatchResult<'a> {
    /// The request was answered.
    Succeeded {
        /// The message.
        message: &'a RawValue,
    },
    /// The request was refused, or failed.
    Errored {
        /// The error.
        error: &'a RawValue,
    },
    /// The batch was canceled before the request was made.
    Canceled,
    /// The request was not made in time.
    Expired,
}
