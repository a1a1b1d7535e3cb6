//! Serves one connection, from its first byte to its last.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::account::InFlight;
use crate::app::App;
use crate::first_bytes::FirstBytes;
use crate::http2::Http2Connection;
use crate::keys::trusted::Peer;
use crate::linger::close;
use crate::received::ReceivedBody;
use crate::room::Place;
use crate::shutdown::EndNow;
use crate::websocket::Upgraded;
use crate::{Metrics, ServerOptions, Tls, tls};

/// The first bytes of a TLS client: a record of type "handshake", version 3.
const TLS_GREETING: &[u8] = &[0x16, 0x03];

/// The time between two warnings about TLS clients.
const NOTICES_APART: Duration = Duration::from_mins(1);

/// Warns that a client uses TLS, which this server does not support; at most once a minute.
#[derive(Clone, Default)]
struct TlsNotice(Arc<Mutex<Option<Instant>>>);

impl TlsNotice {
    fn give(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= NOTICES_APART) {
            *last = Some(Instant::now());
            tracing::warn!(
                "a client used TLS, but this port serves plain HTTP: the URL must begin with http://, not https://"
            );
        }
    }
}

/// The state of a connection, as its requests change it.
#[derive(Default)]
struct ConnectionState {
    /// Whether a request has arrived.
    has_request: AtomicBool,
    /// The state of the connection after its HTTP has ended.
    upgraded: Upgraded,
    /// Whether the answers of this connection must end now.
    end_now: EndNow,
}

impl ConnectionState {
    fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }
}

/// Serves connections: the app, HTTP settings, and the signal to close.
#[derive(Clone)]
pub(crate) struct Connection {
    http: http1::Builder,
    app: App,
    head_timeout: Duration,
    stall_timeout: Duration,
    /// `None`: plain HTTP.
    tls: Option<Tls>,
    /// Resolves when the server stops.
    closed: watch::Receiver<()>,
    /// Resolves when the time of the answers that still run is over.
    overdue: watch::Receiver<()>,
    tls_notice: TlsNotice,
    /// The gauge of connections that use HTTP/2.
    http2_connections: Option<InFlight>,
}

impl Connection {
    pub(crate) fn new(
        app: App,
        options: &ServerOptions,
        closed: watch::Receiver<()>,
        overdue: watch::Receiver<()>,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout);
        Self {
            http,
            app,
            head_timeout: options.head_timeout,
            stall_timeout: options.stall_timeout,
            tls: options.tls.clone(),
            closed,
            overdue,
            tls_notice: TlsNotice::default(),
            http2_connections: options.metrics.as_ref().map(Metrics::http2_connections),
        }
    }

    /// Serves the connection until either side closes it or the server stops. Dropping `place`
    /// frees its place among the open connections.
    pub(crate) async fn serve(mut self, stream: TcpStream, place: Place) {
        self.tune(&stream);
        let peer = stream.peer_addr().ok();
        let peer = peer.map(|address| Peer(address.ip()));
        let Some(tls) = self.tls.take() else {
            return self.serve_http(stream, peer, place).await;
        };
        let handshake = timeout(self.head_timeout, tls.acceptor().accept(stream));
        let stream = tokio::select! {
            biased;
            stream = handshake => stream,
            _ = self.closed.changed() => return,
        };
        match stream {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) => {
                let stream = FirstBytes::after(Bytes::new(), stream);
                Box::pin(self.serve_http2(stream, peer, place)).await;
            }
            Ok(Ok(stream)) => Box::pin(self.serve_http(stream, peer, place)).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_late) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Serves HTTP on a stream of bytes: HTTP/1.1, unless the client begins with the preface of
    /// HTTP/2.
    async fn serve_http<C>(mut self, stream: C, peer: Option<Peer>, place: Place)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let state = Arc::new(ConnectionState::default());
        let service = service_fn({
            let (app, state) = (RefCell::new(self.app.clone()), state.clone());
            move |mut request: Request<Incoming>| {
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                state.has_request.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(state.end_now.clone());
                let state = state.clone();
                let request = request.map(ReceivedBody::from);
                let answer = app.borrow_mut().answer(request);
                answer.map_ok(move |mut response| {
                    state.upgraded.note(&mut response);
                    response
                })
            }
        });
        let stream = TokioIo::new(FirstBytes::new(stream));
        let mut connection = self.http.serve_connection(stream, service);
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
            _ = self.closed.changed() => None,
        };
        match ended {
            // The server stops. A client that has sent no request is not waited for.
            None if state.has_request() => {
                Pin::new(&mut connection).graceful_shutdown();
                // By reference: moving the connection would copy it.
                let ended = tokio::select! {
                    biased;
                    ended = &mut connection => ended,
                    _ = self.overdue.changed() => {
                        state.end_now.set();
                        (&mut connection).await
                    }
                };
                log_error(ended);
            }
            None => {}
            Some(Ok(())) => {
                let parts = connection.into_parts();
                let (stream, read) = (parts.io.into_inner().into_inner(), parts.read_buf);
                match state.upgraded.take() {
                    Some(upgrade) => Box::pin(upgrade.serve(stream, read, self.closed)).await,
                    None => Box::pin(close(stream)).await,
                }
            }
            Some(Err(error)) if error.is_parse_version_h2() && !state.has_request() => {
                let parts = connection.into_parts();
                let stream = FirstBytes::after(parts.read_buf, parts.io.into_inner().into_inner());
                Box::pin(self.serve_http2(stream, peer, place)).await;
            }
            Some(Err(error)) => {
                if error.is_parse() && connection.into_parts().read_buf.starts_with(TLS_GREETING) {
                    self.tls_notice.give();
                }
                log_error(Err(error));
            }
        }
    }

    /// Serves HTTP/2 on a stream of bytes.
    async fn serve_http2<C>(self, stream: FirstBytes<C>, peer: Option<Peer>, place: Place)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = self.http2_connections.as_ref().map(InFlight::enter);
        let connection = Http2Connection {
            app: self.app,
            peer,
            place,
            idle_timeout: self.head_timeout,
            stall_timeout: self.stall_timeout,
            closed: self.closed,
            overdue: self.overdue,
        };
        connection.serve(stream).await;
    }

    fn tune(&self, stream: &TcpStream) {
        // With Nagle's algorithm, each piece of a streamed answer could wait 40 ms for the client's
        // delayed ACK.
        let mut tuned = stream.set_nodelay(true);
        // Only the kernel knows whether the client receives what is sent. It closes a connection
        // whose bytes stay unacknowledged for longer than this.
        #[cfg(target_os = "linux")]
        if tuned.is_ok() {
            tuned = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.stall_timeout));
        }
        if let Err(error) = tuned {
            tracing::debug!(%error, "cannot set the options of a connection");
        }
    }
}

/// Logs a broken connection at debug level: a client that leaves or does not speak HTTP is not a
/// server error.
pub(crate) fn log_error(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
