//! Batches: the request, the object in answers, and a line of the output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ExpiresAfter;
use crate::object::object;

object! {
    /// The request of `POST /v1/batches`.
    pub struct CreateBatch {
        /// The id of the file with the requests.
        required input_file_id: String = "input_file_id",
        /// The path of the route that all requests are for.
        required endpoint: String = "endpoint",
        /// The time within which the batch is processed: always `24h`.
        required completion_window: String = "completion_window",
        /// When the files with the answers expire.
        optional output_expires_after: ExpiresAfter = "output_expires_after",
        /// Labels of the client.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

/// A batch. Its `metadata` is not part of this type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The id.
    pub id: String,
    /// Always `batch`.
    pub object: String,
    /// The path of the route that all requests are for.
    pub endpoint: String,
    /// The model of the first request.
    pub model: Option<String>,
    /// The errors of the input file as a whole.
    pub errors: Option<BatchErrors>,
    /// The id of the file with the requests.
    pub input_file_id: String,
    /// Always `24h`.
    pub completion_window: String,
    /// `validating`, `failed`, `in_progress`, `finalizing`, `completed`, `expired`, `cancelling` or
    /// `cancelled`.
    pub status: String,
    /// The id of the file with the answers.
    pub output_file_id: Option<String>,
    /// The id of the file with the errors.
    pub error_file_id: Option<String>,
    /// When the batch was created, in Unix seconds, as all times here.
    pub created_at: u64,
    /// When the first request was started.
    pub in_progress_at: Option<u64>,
    /// When requests that were not started are given up.
    pub expires_at: u64,
    /// When all requests were done.
    pub finalizing_at: Option<u64>,
    /// When the output was complete.
    pub completed_at: Option<u64>,
    /// When the batch failed.
    pub failed_at: Option<u64>,
    /// When the batch expired.
    pub expired_at: Option<u64>,
    /// When the client cancelled the batch.
    pub cancelling_at: Option<u64>,
    /// When the batch was cancelled.
    pub cancelled_at: Option<u64>,
    /// How many requests there are.
    pub request_counts: BatchCounts,
    /// The tokens of all answers.
    pub usage: BatchUsage,
}

/// The errors of the input file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchErrors {
    /// Always `list`.
    pub object: String,
    /// The errors.
    pub data: Vec<BatchError>,
}

/// An error in an input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchError {
    /// The kind of error, for programs.
    pub code: String,
    /// The text of the error.
    pub message: String,
    /// The field with the error.
    pub param: Option<String>,
    /// The number of the line, from 1.
    pub line: Option<u64>,
}

/// The numbers of requests of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCounts {
    /// All of them.
    pub total: u64,
    /// The requests that were answered.
    pub completed: u64,
    /// The requests that failed.
    pub failed: u64,
}

/// The tokens of all answers of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchUsage {
    /// The tokens of the prompts.
    pub input_tokens: u64,
    /// The input tokens by kind.
    pub input_tokens_details: BatchInputDetails,
    /// The tokens that were generated.
    pub output_tokens: u64,
    /// The output tokens by kind.
    pub output_tokens_details: BatchOutputDetails,
    /// The sum of input and output tokens.
    pub total_tokens: u64,
}

/// Which prompt tokens were cached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchInputDetails {
    /// The tokens that the engine had computed before.
    pub cached_tokens: u64,
}

/// Which generated tokens were reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOutputDetails {
    /// The tokens of the reasoning.
    pub reasoning_tokens: u64,
}

/// A line of the output of a batch, or of its errors.
#[derive(Debug, Serialize)]
pub struct BatchLine<'a> {
    /// The id of this answer.
    pub id: String,
    /// The client's id of the request. `None` if the line could not be parsed.
    pub custom_id: Option<&'a str>,
    /// The answer, or the error with which the request was refused.
    pub response: Option<BatchResponse<'a>>,
    /// Why the request was not made.
    pub error: Option<BatchLineError<'a>>,
}

/// The answer to a request of a batch.
#[derive(Debug, Serialize)]
pub struct BatchResponse<'a> {
    /// The HTTP status.
    pub status_code: u16,
    /// The id of the request in the log.
    pub request_id: &'a str,
    /// The body.
    pub body: &'a RawValue,
}

/// Why a request of a batch was not made.
#[derive(Debug, Serialize)]
pub struct BatchLineError<'a> {
    /// The kind of error, for programs.
    pub code: &'a str,
    /// The text of the error.
    pub message: &'a str,
}
