//! Errors of HTTP calls, independent of the content of responses.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::connect::ConnectTimedOut;
use super::tls::TlsFault;
use crate::{BackendError, Phase};

type Cause = Box<dyn StdError + Send + Sync>;

/// The reason why a call failed, and in which phase.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no connection, or it was closed before the request was sent. A retry is safe.
    #[error("the connection failed")]
    Unreachable(#[source] Cause),
    /// The URL says that the server speaks TLS and it does not, or the reverse, or the certificate
    /// is not trusted.
    #[error("the server {}", .0.sentence())]
    Tls(TlsFault),
    /// A phase exceeded its time limit.
    #[error("it took longer than {} s {phase}", .after.as_secs_f32())]
    TimedOut {
        /// The phase.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The connection broke before the response was complete.
    #[error("the connection broke before the end of the answer")]
    CutShort(#[source] Cause),
    /// The response is not HTTP.
    #[error("the response is not HTTP")]
    NotHttp(#[source] Cause),
    /// A complete response exceeds the size limit.
    #[error("the response is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

impl Error {
    /// Converts the error for the client. Logs the cause, which may contain an address; it appears
    /// nowhere else.
    pub fn into_backend(self, backend: &str) -> BackendError {
        if let Some(cause) = self.source() {
            tracing::warn!(backend, error = %self, cause = %Chain(cause), "a request to a backend failed");
        } else if let Self::Tls(_) = &self {
            tracing::warn!(backend, error = %self, "a request to a backend failed");
        }
        let name = || backend.to_owned();
        match self {
            Self::Unreachable(_) => BackendError::Unreachable { backend: name() },
            Self::Tls(fault) => BackendError::Tls {
                backend: name(),
                fault,
            },
            Self::TimedOut { phase, after } => BackendError::TimedOut {
                backend: name(),
                phase,
                after,
            },
            Self::CutShort(_) => BackendError::CutShort { backend: name() },
            Self::NotHttp(_) => BackendError::BadAnswer {
                backend: name(),
                what: "it is not HTTP".to_owned(),
            },
            Self::TooLong { limit } => BackendError::BadAnswer {
                backend: name(),
                what: format!("it is longer than {limit} bytes"),
            },
        }
    }

    /// Converts an error that occurred before there was a connection.
    pub(super) fn of_connecting(error: Cause) -> Self {
        match (
            error.downcast_ref::<ConnectTimedOut>(),
            TlsFault::of(&*error),
        ) {
            (Some(timed_out), _) => Self::TimedOut {
                phase: Phase::Connect,
                after: timed_out.after,
            },
            (None, Some(fault)) => Self::Tls(fault),
            (None, None) => Self::Unreachable(error),
        }
    }
}

/// A response that is not HTTP: the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(super) struct NotHttp(pub(super) &'static str);

/// The reason why a connection could not be used further.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The server closed the connection before the end of the response.
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    NotHttp(#[from] NotHttp),
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::NotHttp(rule) => Self::NotHttp(rule.into()),
            closed => Self::CutShort(closed.into()),
        }
    }
}

/// Displays an error with all of its causes.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        std::iter::successors(self.0.source(), |&cause| cause.source())
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}
