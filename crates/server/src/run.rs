//! Takes connections in, as many as there is room for, until the server is told to stop.
//!
//! Who serves them is `crew.rs`; what happens on one of them, `connection.rs`.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ServerOptions;
use crate::crew::Crew;

/// How long to wait after an accept that failed for want of something (descriptors, memory), which
/// only closing connections can give.
const BREATHER: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done; then takes no connection any more, lets answers under way
/// finish for as long as the options allow, and cuts the rest.
///
/// Fails where threads cannot be started, or the listener is of no use.
pub async fn run(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
    options: &ServerOptions,
) -> io::Result<()> {
    let mut crew = Crew::start(&app, options)?;
    let room = Arc::new(Semaphore::new(options.max_connections));
    let mut shutdown = pin!(shutdown);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            accepted = accept(&listener, &room) => match accepted {
                Ok((stream, place)) => crew.take(stream, place),
                Err(error) => break Err(error),
            },
        }
    };
    drop(listener);
    crew.finish().await;
    ended
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = room
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let mut told = false;
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, place)),
            Err(error) => error,
        };
        match next_after(&error) {
            Next::AtOnce => {}
            Next::AfterABreather => {
                if !told {
                    tracing::warn!(%error, "cannot accept connections for now; is the limit of open files too low?");
                    told = true;
                }
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
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput,
        Unsupported,
    };
    match error.kind() {
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted => Next::AtOnce,
        InvalidInput | Unsupported => Next::Never,
        _ => Next::AfterABreather,
    }
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
        for (errno, name) in [
            (12, "ENOMEM"),
            (23, "ENFILE"),
            (24, "EMFILE"),
            (105, "ENOBUFS"),
        ] {
            assert_eq!(next(errno), Next::AfterABreather, "{name}");
        }
        for (errno, name) in [(22, "EINVAL"), (95, "EOPNOTSUPP")] {
            assert_eq!(next(errno), Next::Never, "{name}");
        }
    }
}
