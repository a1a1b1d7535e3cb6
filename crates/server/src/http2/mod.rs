//! HTTP/2: one connection, whose streams are requests (RFC 9113).
//!
//! hyper speaks the protocol. Here are its limits, and what hyper leaves to a server: which streams
//! run ([`activity`]), the task of each ([`streams`]), requests that are not read to their end
//! ([`request_body`]), answers that clients read slowly ([`body`]), and when a connection ends.

mod activity;
mod body;
mod request_body;
mod streams;

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use http::header::HOST;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use loggia_api::ApiError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::app::App;
use crate::connection::log_error;
use crate::keys::trusted::Peer;
use crate::room::Place;
use crate::shutdown::EndNow;
use activity::Activity;
use body::StreamBody;
pub(crate) use request_body::RequestBody;
use streams::Streams;

/// The largest number of open streams of a connection. A client that needs more opens a second
/// connection. One connection is served by one thread.
const STREAMS: u32 = 256;

/// The largest size of the head of a request; 431 beyond.
const HEAD: u32 = 64 << 10;

/// How many bytes of its request a stream may send before they are read. Bodies are read as they
/// arrive, so this limits the speed of a large one: 256 KiB for each round trip.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all streams of a connection together: the memory that unread bodies may take.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How many bytes of its answer a stream may have waiting for the connection.
const SEND_BUFFER: usize = 16 << 10;

/// How many streams a client may open and reset before the server has seen them. Beyond that the
/// connection is closed ("rapid reset").
const RESETS: usize = 20;

/// How many streams the server may reset because of the client's errors, before it closes the
/// connection.
const ERRORS: usize = 256;

/// The time without a frame of the client after which the server sends a ping. Its bytes make the
/// kernel find out that a client is gone.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a client may take to answer a ping. Many clients read only while their program waits
/// for the next piece of an answer, and that may take its time with each.
const PONG_WITHIN: Duration = Duration::from_mins(10);

/// How long nothing happens on a connection before the client is asked to close it, and how long it
/// may then take.
const GOODBYE: Duration = Duration::from_millis(500);

/// An extension of requests for which there is no room: they are refused with a 503.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRoom;

impl NoRoom {
    /// Returns the refusal of such a request.
    pub(crate) fn refusal() -> ApiError {
        let message =
            "The server answers as many requests as it may ('max_connections'). Try again later.";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("server_full")
    }
}

/// A connection that speaks HTTP/2.
pub(crate) struct Http2Connection {
    pub(crate) app: App,
    pub(crate) peer: Option<Peer>,
    pub(crate) place: Place,
    /// How long the connection may have no stream.
    pub(crate) idle_timeout: Duration,
    /// How long the client may not read the answer of a stream.
    pub(crate) stall_timeout: Duration,
    /// Resolves when the server stops.
    pub(crate) closed: watch::Receiver<()>,
    /// Resolves when the time of the answers that still run is over.
    pub(crate) overdue: watch::Receiver<()>,
}

impl Http2Connection {
    /// Serves the connection until either side closes it or the server stops.
    pub(crate) async fn serve<C>(self, stream: C)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            app,
            peer,
            place,
            idle_timeout,
            stall_timeout,
            mut closed,
            overdue,
        } = self;
        let activity = Arc::<Activity>::default();
        let end_now = EndNow::default();
        let streams = Streams::new(overdue, end_now.clone(), stall_timeout);
        let service = service_fn({
            let activity = Arc::clone(&activity);
            let app = RefCell::new(app);
            move |mut request: Request<Incoming>| {
                let running = activity.begin(&place);
                if running.is_none() {
                    request.extensions_mut().insert(NoRoom);
                }
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                request.extensions_mut().insert(end_now.clone());
                name_host(&mut request);
                let activity = Arc::clone(&activity);
                let request = request.map(|body| RequestBody::new(body).into());
                let answer = app.borrow_mut().answer(request);
                answer.map_ok(move |response| {
                    response.map(|body| StreamBody::new(body, activity, running))
                })
            }
        });
        let http = builder(streams);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = &mut connection => return log_error(ended),
            _ = closed.changed() => {}
            () = activity.idle_for(idle_timeout) => {}
        }
        tokio::select! {
            biased;
            ended = &mut connection => return log_error(ended),
            () = activity.begun_or_over_for(GOODBYE) => {}
        }
        // Tells the client to begin no more requests. Those that run finish. But some clients give
        // all of them up when they are told, so this waits until it is necessary, or nothing runs.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = &mut connection => log_error(ended),
            // A client that does nothing with its connection does not answer that either.
            () = activity.over_for(GOODBYE) => {}
        }
    }
}

fn builder(streams: Streams) -> http2::Builder<Streams> {
    let mut http = http2::Builder::new(streams);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    http
}

/// Sets the header `host`, as HTTP/1.1 has it, to the host of the request. If both are sent, the
/// pseudo-header `:authority` applies.
fn name_host<B>(request: &mut Request<B>) {
    let host = request.uri().authority();
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_host() {
        for (uri, host, expected) in [
            ("https://loggia:1/v1/models", None, Some("loggia:1")),
            ("https://loggia/", Some("other"), Some("loggia")),
            ("/v1/models", Some("other"), Some("other")),
            ("/v1/models", None, None),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let mut request = request.body(()).unwrap();
            name_host(&mut request);
            let found = request
                .headers()
                .get(HOST)
                .map(|host| host.to_str().unwrap());
            assert_eq!(found, expected, "{uri} {host:?}");
        }
    }
}
