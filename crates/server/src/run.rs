//! Connections: how they are taken in, what bounds them, and how they end when the server does.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::ServerOptions;

/// How long to wait after an accept that failed for want of something (descriptors, memory), which only closing connections can give.
const BREATHER: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done; then takes no connection any more, lets answers under way finish for as long as the options allow,
/// and cuts the rest.
///
/// Fails only where the listener itself is of no use.
pub async fn run(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
    options: &ServerOptions,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(options.max_connections));
    let http = http(options.head_timeout);
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted?,
        };
        // What has ended is let go of; there are never more than places, and one.
        while connections.try_join_next().is_some() {}
        let connection = Connection { http: http.clone(), app: app.clone(), closed: closed.clone() };
        connections.spawn(async move {
            connection.serve(stream).await;
            drop(place);
        });
    }
    drop(listener);
    drop(closing);
    let under_way = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(options.shutdown_timeout, under_way).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut what had not finished in time");
        connections.shutdown().await;
    }
    Ok(())
}

fn http(head_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    http
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, place)),
            Err(error) => error,
        };
        match next_after(&error) {
            Next::AtOnce => {}
            Next::AfterABreather => {
                tracing::warn!(%error, "cannot accept connections; is the limit of open files too low?");
                tokio::time::sleep(BREATHER).await;
            }
            Next::Never => return Err(error),
        }
    }
}

/// When to accept again after an accept that failed.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// That one connection broke before it was taken.
    AtOnce,
    /// Something is lacking: descriptors, memory.
    AfterABreather,
    /// This is no listener.
    Never,
}

fn next_after(error: &io::Error) -> Next {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, Unsupported,
    };
    match error.kind() {
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted => Next::AtOnce,
        InvalidInput | Unsupported => Next::Never,
        _ => Next::AfterABreather,
    }
}

/// One connection, from its first byte to its last.
struct Connection {
    http: http1::Builder,
    app: Router,
    closed: watch::Receiver<()>,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        // Without it, each piece of a streamed answer may wait 40 ms for the client's delayed ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no nodelay on a connection");
        }
        let asked = Arc::new(AtomicBool::new(false));
        let service = hyper::service::service_fn({
            let (app, asked) = (self.app, asked.clone());
            move |request| {
                asked.store(true, Ordering::Relaxed);
                answer(app.clone(), request)
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            _ = self.closed.changed() => {
                // One that has not asked anything yet would be waited for.
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

async fn answer(mut app: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    // A router is always ready.
    app.call(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn only_a_listener_that_is_none_ends_the_loop() {
        let next = |errno| next_after(&io::Error::from_raw_os_error(errno));
        for (errno, name) in [(4, "EINTR"), (103, "ECONNABORTED")] {
            assert_eq!(next(errno), Next::AtOnce, "{name}");
        }
        for (errno, name) in [(12, "ENOMEM"), (23, "ENFILE"), (24, "EMFILE"), (105, "ENOBUFS")] {
            assert_eq!(next(errno), Next::AfterABreather, "{name}");
        }
        for (errno, name) in [(22, "EINVAL"), (95, "EOPNOTSUPP")] {
            assert_eq!(next(errno), Next::Never, "{name}");
        }
    }
}
