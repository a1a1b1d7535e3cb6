//! Logs and words the errors of one request: once, without text of the client, in the terms of the
//! request (a chat's messages, a completion's prompt).

use std::sync::Arc;

use http::request::Parts;
use loggia_backend::BackendError;

use crate::wording::Dialect;
use crate::{ApiError, RequestId};

/// Converts the errors of one request to those that its client sees.
#[derive(Clone, Debug)]
pub(crate) struct Refusals {
    pub(crate) request_id: Option<Arc<str>>,
    dialect: Dialect,
}

impl Refusals {
    pub(crate) fn new(parts: &Parts, dialect: Dialect) -> Self {
        Self {
            request_id: RequestId::of(parts),
            dialect,
        }
    }

    /// Logs and converts an error before the answer has begun.
    pub(crate) fn refuse(&self, error: BackendError) -> ApiError {
        let cause = error.kind();
        let error = ApiError::worded(error, self.dialect);
        let (request_id, status) = (self.request_id.as_deref(), error.status.as_u16());
        if error.status.is_server_error() {
            tracing::warn!(request_id, cause, status, "a request failed");
        } else {
            tracing::debug!(request_id, cause, status, "a request was refused");
        }
        error
    }

    /// Logs and converts an error in a stream that has begun.
    pub(crate) fn fail(&self, error: BackendError) -> ApiError {
        tracing::warn!(
            request_id = self.request_id.as_deref(),
            cause = error.kind(),
            "a stream failed"
        );
        ApiError::worded(error, self.dialect)
    }
}
