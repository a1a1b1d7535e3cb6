//! The end of a shutdown. Shortly before the connections are closed, the answers that still run end
//! by themselves: streams with an error event, the others with a 503.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use loggia_api::ApiError;

/// The most time before the end of a shutdown at which running answers are ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Returns the time before the end of a shutdown at which running answers are ended.
pub(crate) fn last_words(shutdown_timeout: Duration) -> Duration {
    LAST_WORDS.min(shutdown_timeout / 4)
}

/// The error of an answer that the shutdown ends.
pub(crate) fn error() -> ApiError {
    let message = "The server is shutting down. Try again after it has restarted.";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("server_stopping")
}

/// Whether the answers of a connection must end now: an extension of its requests.
///
/// Setting this wakes no task. Whoever polls the answers (the task of the connection, or that of a
/// stream of HTTP/2) polls them again after it has set this.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndNow(Arc<AtomicBool>);

impl EndNow {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for an answer to begin. Returns `None` if it must end before that.
    pub(crate) async fn unless_set<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.is_set() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}
