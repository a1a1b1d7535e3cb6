//! Logs and words the errors of one request: once, without text of the client, in the terms of the
//! request (a chat's messages, a completion's prompt).

use std::sync::Arc;

use http::request::Parts;
use loggia_backend::BackendError;

use crate::wording::{Dialect, Origins};
use crate::{ApiError, RequestId};

/// Converts the errors of one request to those that its client sees. Clones share one allocation,
/// because a request that waits for an engine has several of them in its future.
#[derive(Clone, Debug)]
pub(crate) struct Refusals(Arc<RequestFacts>);

#[derive(Debug)]
struct RequestFacts {
    request_id: Option<Arc<str>>,
    dialect: Dialect,
    origins: Origins,
}

impl Refusals {
    pub(crate) fn new(parts: &Parts, dialect: Dialect) -> Self {
        Self::with_origins(parts, dialect, Origins::default())
    }

    /// Creates the refusals of a chat whose fields come from there.
    pub(crate) fn with_origins(parts: &Parts, dialect: Dialect, origins: Origins) -> Self {
        Self(Arc::new(RequestFacts {
            request_id: RequestId::of(parts),
            dialect,
            origins,
        }))
    }

    pub(crate) fn request_id(&self) -> Option<Arc<str>> {
        self.0.request_id.clone()
    }

    fn worded(&self, error: BackendError) -> ApiError {
        ApiError::worded_at(error, self.0.dialect, &self.0.origins)
    }

    /// Logs and converts an error before the answer has begun.
    pub(crate) fn refuse(&self, error: BackendError) -> ApiError {
        let cause = error.kind();
        let error = self.worded(error);
        let (request_id, status) = (self.0.request_id.as_deref(), error.status.as_u16());
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
            request_id = self.0.request_id.as_deref(),
            cause = error.kind(),
            "a stream failed"
        );
        self.worded(error)
    }
}
