//! The door's body: how it ended is carried to the log, past the layers that hide what kind of body it is; and a panic in the middle of it
//! ends it as any other failure would.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use loggia_api::{Ended, Outcome};

use crate::panic;

/// What the door says in the end; among the extensions of its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<OnceLock<Ended>>);

impl Verdict {
    /// How the answer ended, once it has.
    pub(crate) fn known(&self) -> Option<&Ended> {
        self.0.get()
    }
}

/// The door's body, which leaves its verdict.
pub(crate) struct JudgedBody {
    /// `None` once it has panicked: it is not to be touched again.
    inner: Option<loggia_api::Body>,
    verdict: Verdict,
}

/// Has the door's answer leave its verdict.
pub(crate) fn judged(answer: Response<loggia_api::Body>) -> Response<JudgedBody> {
    let verdict = Verdict::default();
    let mut answer = answer.map(|inner| JudgedBody { inner: Some(inner), verdict: verdict.clone() });
    answer.extensions_mut().insert(verdict);
    answer
}

impl Body for JudgedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { inner, verdict } = &mut *self;
        let Some(body) = inner else { return Poll::Ready(None) };
        let Ok(frame) = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx))) else {
            *inner = None;
            verdict.0.get_or_init(|| Ended { outcome: Outcome::Failed, usage: None });
            // What can panic by now is a stream; a whole answer lies ready.
            return Poll::Ready(Some(Ok(Frame::data(panic::last_event()))));
        };
        if let Some(ended) = body.ended() {
            verdict.0.get_or_init(|| ended.clone());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
