//! How the door's answer ended, carried to the log past the layers that hide what kind of body it has.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use loggia_api::Ended;

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
    inner: loggia_api::Body,
    verdict: Verdict,
}

/// Has the door's answer leave its verdict.
pub(crate) fn judged(answer: Response<loggia_api::Body>) -> Response<JudgedBody> {
    let verdict = Verdict::default();
    let mut answer = answer.map(|inner| JudgedBody { inner, verdict: verdict.clone() });
    answer.extensions_mut().insert(verdict);
    answer
}

impl Body for JudgedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Some(ended) = self.inner.ended() {
            self.verdict.0.get_or_init(|| ended.clone());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
