//! One connection, from its first byte to its last.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tower::Service;

use crate::ServerOptions;

/// How long a client that has its last answer may go on sending, in all, and how long it may pause
/// meanwhile.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(2);

/// How a client of TLS begins: a record of type "handshake", of version 3.
const TLS_GREETING: &[u8] = &[0x16, 0x03];

/// How often the log tells of such clients.
const NOTICES_APART: Duration = Duration::from_mins(1);

/// Tells the operator that a client speaks TLS where there is none; not for each of its tries.
#[derive(Clone, Default)]
struct TlsNotice(Arc<Mutex<Option<Instant>>>);

impl TlsNotice {
    fn give(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= NOTICES_APART) {
            *last = Some(Instant::now());
            tracing::warn!(
                "a client spoke TLS to this port, which serves plain HTTP: its URL has to begin with http://, not https://"
            );
        }
    }
}

/// What each connection needs.
#[derive(Clone)]
pub(crate) struct Connection {
    http: http1::Builder,
    app: Router,
    stall_timeout: Duration,
    /// Its other end is dropped when the server is told to stop.
    closed: watch::Receiver<()>,
    tls_notice: TlsNotice,
}

impl Connection {
    pub(crate) fn new(app: Router, options: &ServerOptions, closed: watch::Receiver<()>) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout);
        Self {
            http,
            app,
            stall_timeout: options.stall_timeout,
            closed,
            tls_notice: TlsNotice::default(),
        }
    }

    /// Answers what is asked on it until one side has had enough, or the server is told to stop.
    /// `_place` is given back when it ends.
    pub(crate) async fn serve(mut self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        self.tune(&stream);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (app, asked) = (self.app, asked.clone());
            move |request: Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                // A router is always ready.
                app.clone().call(request)
            }
        });
        let mut connection = self.http.serve_connection(TokioIo::new(stream), service);
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
            _ = self.closed.changed() => {
                // One that has asked nothing yet would be waited for.
                if asked.load(Ordering::Relaxed) {
                    Pin::new(&mut connection).graceful_shutdown();
                    // By reference: moved, it would take up its room twice.
                    broke((&mut connection).await);
                }
                return;
            }
        };
        match ended {
            Ok(()) => Box::pin(part(connection.into_parts().io.into_inner())).await,
            Err(error) => {
                if error.is_parse() && connection.into_parts().read_buf.starts_with(TLS_GREETING) {
                    self.tls_notice.give();
                }
                broke(Err(error));
            }
        }
    }

    fn tune(&self, stream: &TcpStream) {
        // Without it, each piece of a streamed answer may wait 40 ms for the client's delayed ACK.
        let mut tuned = stream.set_nodelay(true);
        // The kernel alone sees whether a client takes what it is sent: it ends a connection on
        // which bytes wait for longer.
        #[cfg(target_os = "linux")]
        if tuned.is_ok() {
            tuned = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.stall_timeout));
        }
        if let Err(error) = tuned {
            tracing::debug!(%error, "a connection could not be tuned");
        }
    }
}

/// A client that leaves, or talks something other than HTTP, is no fault of the server's.
fn broke(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Closes a connection so that its last answer arrives. A refusal may come before the request was
/// read (413); a socket that is closed with bytes still coming resets, and a reset can overtake the
/// answer. So this side says that it has ended, and reads on for a while.
async fn part(mut stream: TcpStream) {
    let to_its_end = async {
        stream.shutdown().await?;
        let mut unwanted = vec![0; 16 << 10];
        while timeout(LINGER_PAUSE, stream.read(&mut unwanted))
            .await
            .is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0))
        {}
        Ok::<_, std::io::Error>(())
    };
    let _however_it_ends = timeout(LINGER, to_its_end).await;
}
