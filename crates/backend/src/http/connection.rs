//! A connection to an engine, which carries one request at a time.
//!
//! It has no task and no buffer of its own: the task that waits for the answer reads and writes, and
//! what arrives is decoded from a buffer that all connections of a thread share. An open stream
//! holds nothing here but its socket, and a token costs one read (`docs/decisions/0007-runtime.md`).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::rt::{Read as _, ReadBuf, Write as _};

use super::RequestBody;
use super::connect::Stream;
use super::error::{Broken, NotHttp};
use super::framing::{Decoded, Framing};
use super::head::{self, ResponseHead};

/// The maximum number of bytes that one read takes.
const READ: usize = 64 << 10;

thread_local! {
    /// Where the connections of this thread receive.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A connection to an engine. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// The request, until all of it has been sent.
    sending: Option<Box<Sending>>,
    /// Whether another request can follow the current one.
    keeps_alive: bool,
}

/// The beginning of a response.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<()>,
    /// The body that arrived with the head.
    pub(super) ahead: Bytes,
    /// The rest of the body.
    pub(super) framing: Framing,
}

/// The error of a request without a response.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: Broken,
    /// Whether any of the request was sent.
    pub(super) was_sent: bool,
}

impl Connection {
    pub(super) fn over(stream: Stream) -> Self {
        Self {
            stream,
            sending: None,
            keeps_alive: true,
        }
    }

    /// Sends a request and waits for the head of the response. The rest of the body can be read
    /// with [`poll_data`](Self::poll_data).
    pub(super) async fn ask(
        &mut self,
        request: &Request<RequestBody>,
    ) -> Result<Answered, Unanswered> {
        self.sending = Some(Box::new(Sending::new(request)));
        let mut asked = Asked {
            method: request.method(),
            received: Vec::new(),
            unsent: None,
            was_sent: false,
        };
        poll_fn(|cx| self.poll_answer(&mut asked, cx)).await
    }

    fn poll_answer(
        &mut self,
        asked: &mut Asked<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answered, Unanswered>> {
        if let Some(sending) = &mut self.sending {
            let sent = sending.poll(&mut self.stream, cx);
            asked.was_sent |= sending.has_begun;
            match sent {
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(error)) => {
                    self.sending = None;
                    self.keeps_alive = false;
                    // The server may have answered before it closed the connection.
                    if !was_closed(&error) {
                        return Poll::Ready(Err(Unanswered {
                            error: error.into(),
                            was_sent: asked.was_sent,
                        }));
                    }
                    asked.unsent = Some(error);
                }
                Poll::Pending => {}
            }
        }
        ready!(self.poll_head(asked, cx))
            .map_err(|error| Unanswered {
                error: asked.unsent.take().map_or(error, Broken::Io),
                was_sent: asked.was_sent,
            })
            .into()
    }

    fn poll_head(
        &mut self,
        asked: &mut Asked<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answered, Broken>> {
        loop {
            let method = asked.method;
            let received = &mut asked.received;
            let answered = ready!(poll_read(&mut self.stream, cx, |bytes| {
                if bytes.is_empty() {
                    return Err(Broken::Closed);
                }
                if received.is_empty() {
                    let answered = first_answer(bytes, method)?;
                    if answered.is_none() {
                        received.extend_from_slice(bytes);
                    }
                    return Ok(answered);
                }
                received.extend_from_slice(bytes);
                Ok(first_answer(received, method)?)
            }))?;
            if let Some((answered, keeps_alive)) = answered? {
                self.keeps_alive &= keeps_alive;
                return Poll::Ready(Ok(answered));
            }
        }
    }

    /// Returns the next data of a body, or `None` at its end.
    pub(super) fn poll_data(
        &mut self,
        framing: &mut Framing,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        // The server answers before it has read the request.
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(&mut self.stream, cx)
        {
            self.keeps_alive &= sent.is_ok();
            self.sending = None;
        }
        while !framing.is_done() {
            if let Framing::Invalid(rule) = framing {
                return Poll::Ready(Err((*rule).into()));
            }
            let decoded = ready!(poll_read(&mut self.stream, cx, |bytes| {
                if bytes.is_empty() {
                    return Ok(None);
                }
                framing.decode(bytes).map(Some)
            }))??;
            let Some(Decoded { data, has_excess }) = decoded else {
                self.keeps_alive = false;
                return Poll::Ready(match framing {
                    Framing::UntilClose => Ok(None),
                    _ => Err(Broken::Closed),
                });
            };
            self.keeps_alive &= !has_excess;
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(data)));
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Returns whether the connection can take another request, as far as known without waiting.
    pub(super) fn is_ready(&mut self) -> bool {
        // A server sends nothing without a request. It closes the connection, though.
        let mut unheard = Context::from_waker(Waker::noop());
        self.keeps_alive
            && self.sending.is_none()
            && poll_read(&mut self.stream, &mut unheard, |_| ()).is_pending()
    }
}

/// The state of a request without an answer.
struct Asked<'a> {
    method: &'a Method,
    /// The beginning of an incomplete head.
    received: Vec<u8>,
    /// The reason why the request could not be sent.
    unsent: Option<io::Error>,
    was_sent: bool,
}

/// Returns the first final response among these bytes, if its head is complete, and whether another
/// request can follow it.
fn first_answer(mut bytes: &[u8], method: &Method) -> Result<Option<(Answered, bool)>, NotHttp> {
    while let Some(head) = head::parse(bytes, method)? {
        let ResponseHead {
            response,
            mut framing,
            keeps_alive,
            length,
        } = head;
        bytes = &bytes[length..];
        match response.status().as_u16() {
            101 => return Err(NotHttp("a switch of protocols that nobody asked for")),
            100..200 => {}
            _ => {
                let (ahead, has_excess) = match framing.decode(bytes) {
                    Ok(Decoded { data, has_excess }) => (data, has_excess),
                    Err(rule) => {
                        framing = Framing::Invalid(rule);
                        (Bytes::new(), true)
                    }
                };
                let answered = Answered {
                    response,
                    ahead,
                    framing,
                };
                return Ok(Some((answered, keeps_alive && !has_excess)));
            }
        }
    }
    Ok(None)
}

/// Reads what has arrived, and passes it to `take`. No bytes: the server has closed the connection.
fn poll_read<T>(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    RECEIVED.with_borrow_mut(|received| {
        let mut buffer = ReadBuf::new(received);
        ready!(Pin::new(stream).poll_read(cx, buffer.unfilled()))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// Returns whether the server has closed the connection.
pub(super) fn was_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// A request that is being sent.
struct Sending {
    head: Bytes,
    /// The next piece of the body.
    piece: Bytes,
    body: RequestBody,
    body_ended: bool,
    has_begun: bool,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sending(…)")
    }
}

impl Sending {
    fn new(request: &Request<RequestBody>) -> Self {
        Self {
            head: head::write(request).into(),
            piece: Bytes::new(),
            body: request.body().clone(),
            body_ended: false,
            has_begun: false,
        }
    }

    /// Resolves when all of the request has been sent.
    fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Head and body are sent together, if the body is there.
        if !self.has_begun
            && self.piece.is_empty()
            && let Poll::Ready(taken) = self.next_piece(cx)
        {
            taken?;
        }
        loop {
            while self.head.has_remaining() || self.piece.has_remaining() {
                let slices = [IoSlice::new(&self.head), IoSlice::new(&self.piece)];
                let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.has_begun = true;
                let of_head = written.min(self.head.len());
                self.head.advance(of_head);
                self.piece.advance(written - of_head);
            }
            if self.body_ended {
                return Pin::new(stream).poll_flush(cx);
            }
            ready!(self.next_piece(cx))?;
        }
    }

    /// Takes the next piece of the body.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.body.is_end_stream() {
            self.body_ended = true;
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => self.body_ended = true,
        }
        Poll::Ready(Ok(()))
    }
}
