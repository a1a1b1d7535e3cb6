//! Accepts connections, up to the limit, until the server stops.
//!
//! The limit is in `room.rs`, the threads that serve connections in `threads.rs`, and one connection
//! in `connection.rs`.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::ServerOptions;
use crate::app::App;
use crate::room::{Place, Room};
use crate::threads::Threads;

/// The pause after an accept that failed because file descriptors or memory are exhausted. Only
/// closing connections helps then.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves. Then it accepts no more connections, lets running answers
/// finish for as long as the options allow, and cuts the rest.
///
/// # Errors
///
/// If threads cannot be started, or the listener fails for good.
pub async fn run(
    listener: TcpListener,
    app: impl Into<App>,
    shutdown: impl Future<Output = ()>,
    options: &ServerOptions,
) -> io::Result<()> {
    let mut threads = Threads::start(&app.into(), options)?;
    let room = Room::new(options);
    let mut shutdown = pin!(shutdown);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            accepted = accept(&listener, &room) => match accepted {
                Ok((stream, place)) => threads.take(stream, place),
                Err(error) => break Err(error),
            },
        }
    };
    drop(listener);
    threads.finish().await;
    ended
}

/// Accepts the next connection, once the number of open ones allows it.
async fn accept(listener: &TcpListener, room: &Room) -> io::Result<(TcpStream, Place)> {
    let place = room.place().await.map_err(io::Error::other)?;
    let mut warned = false;
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, room.enter(place))),
            Err(error) => error,
        };
        match next_after(&error) {
            Next::AtOnce => {}
            Next::AfterAPause => {
                if !warned {
                    tracing::warn!(%error, "cannot accept connections for now; the limit of open files may be too low");
                    warned = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Next::Never => return Err(error),
        }
    }
}

/// The action after an accept that failed.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Only this connection failed: accept the next one at once.
    AtOnce,
    /// File descriptors or memory are exhausted.
    AfterAPause,
    /// The listener is unusable.
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
        _ => Next::AfterAPause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn only_an_unusable_listener_ends_the_loop() {
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
            assert_eq!(next(errno), Next::AfterAPause, "{name}");
        }
        for (errno, name) in [(22, "EINVAL"), (95, "EOPNOTSUPP")] {
            assert_eq!(next(errno), Next::Never, "{name}");
        }
    }
}
