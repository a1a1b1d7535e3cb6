//! The reader's side of the channel from the engine. It wakes the engine when the reader makes room
//! or leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::inbox::Inbox;
use super::output::{Output, OutputSender, Piece};
use crate::error::EngineError;

/// The reader's side of the channel: a stream of outputs. Dropping it frees the slot, at any stage
/// of the request.
#[derive(Debug)]
pub(crate) struct OutputStream {
    receiver: mpsc::Receiver<Result<Output, EngineError>>,
    full: Arc<AtomicBool>,
    inbox: Arc<Inbox>,
    ended: bool,
}

/// A channel for `capacity` outputs. The reader wakes the engine through the inbox.
pub(super) fn channel(capacity: usize, inbox: Arc<Inbox>) -> (OutputSender, OutputStream) {
    let (sender, receiver) = mpsc::channel(capacity);
    let full = Arc::new(AtomicBool::new(false));
    (
        OutputSender::new(sender, Arc::clone(&full)),
        OutputStream {
            receiver,
            full,
            inbox,
            ended: false,
        },
    )
}

impl Stream for OutputStream {
    type Item = Result<Output, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = match self.receiver.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(received) => received,
        };
        if self.full.swap(false, Ordering::SeqCst) {
            self.inbox.ring();
        }
        match received {
            Some(output) => {
                self.ended |= matches!(
                    &output,
                    Err(_) | Ok(Output::Piece(Piece { end: Some(_), .. }))
                );
                Poll::Ready(Some(output))
            }
            None if self.ended => Poll::Ready(None),
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(EngineError::Stopped)))
            }
        }
    }
}

impl Drop for OutputStream {
    fn drop(&mut self) {
        self.receiver.close();
        if !self.ended {
            self.inbox.ring();
        }
    }
}
