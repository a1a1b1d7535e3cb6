//! Makes the request of one line, and repeats it while the engine is busy or unreachable.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::sleep;

use super::finished_line::{FinishedLine, Outcome};
use super::input::Request;
use crate::admit::OfBatch;
use crate::answer::id;
use crate::{Caller, Door, RequestId};

/// How often a request is repeated after an error of the server that may pass, and the waits before
/// the first repetition and at most. An engine that is busy or unreachable is waited for.
const REPEATED: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts the requests that wait before they are repeated.
#[derive(Default)]
pub(super) struct Pauses(AtomicUsize);

impl Pauses {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    async fn pause(&self, time: Duration) {
        /// Counts down also if the request is dropped.
        struct Pause<'p>(&'p AtomicUsize);
        impl Drop for Pause<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let _pause = Pause(&self.0);
        sleep(time).await;
    }
}

/// Answers the request of a line. A server counts and logs the answer like one to a client.
pub type AnswerLine =
    Arc<dyn Fn(HttpRequest<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

impl Door {
    /// Returns a function that answers requests of lines, and counts them nowhere.
    pub fn answers_lines(&self) -> AnswerLine {
        let door = self.clone();
        Arc::new(move |request| {
            let door = door.current();
            Box::pin(async move {
                let (head, body) = door.serve(request.map(Full::new)).await.into_parts();
                match body.collect().await {
                    Ok(body) => Response::from_parts(head, body.to_bytes()),
                    Err(never) => match never {},
                }
            })
        })
    }
}

/// Makes the request of a line.
pub(super) async fn make_line(
    answer: &AnswerLine,
    number: u64,
    request: Request,
    endpoint: &str,
    caller: Option<Caller>,
    pauses: &Pauses,
) -> FinishedLine {
    let (mut tries, mut pause) = (0, FIRST_WAIT);
    let outcome = loop {
        let request_id = id::item("req_");
        let asked = http_request(&request, endpoint, caller.clone(), &request_id);
        let answering = AssertUnwindSafe(async { answer(asked).await });
        let Ok(answered) = answering.catch_unwind().await else {
            let message = "The server had an error while processing your request.";
            break Outcome::not_made("server_error", message);
        };
        let status = answered.status().as_u16();
        // 529 is the 503 of Anthropic's API.
        let waits = matches!(status, 429 | 503 | 529);
        tries += 1;
        if !waits && (status < 500 && status != 408 || tries > REPEATED) {
            break Outcome::made(request_id, status, answered.body());
        }
        let wait = answered.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
        let wait = wait.map_or(pause, Duration::from_secs).min(LONGEST_PAUSE);
        pauses.pause(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    FinishedLine {
        number,
        custom_id: Some(request.custom_id),
        outcome,
    }
}

/// Returns the request of a line as a client would send it.
fn http_request(
    request: &Request,
    endpoint: &str,
    caller: Option<Caller>,
    request_id: &str,
) -> HttpRequest<Bytes> {
    let mut asked = HttpRequest::new(request.body.clone());
    *asked.method_mut() = http::Method::POST;
    if let Ok(uri) = endpoint.parse() {
        *asked.uri_mut() = uri;
    }
    let json = http::HeaderValue::from_static("application/json");
    asked.headers_mut().insert(CONTENT_TYPE, json);
    asked.extensions_mut().insert(RequestId(request_id.into()));
    asked.extensions_mut().insert(OfBatch);
    if let Some(caller) = caller {
        asked.extensions_mut().insert(caller);
    }
    asked
}
