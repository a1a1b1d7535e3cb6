//! systemd: takes over a socket on which systemd listens already (socket activation), and reports
//! when the server is ready and when it stops (`Type=notify`). Without systemd, nothing happens.

#[cfg(unix)]
mod unix {
    use anyhow::Context as _;
    use listenfd::ListenFd;
    use sd_notify::NotifyState;
    use tokio::net::TcpListener;

    /// Returns the socket that systemd passed to this process, if it did.
    pub(in super::super) fn socket() -> anyhow::Result<Option<TcpListener>> {
        let socket = ListenFd::from_env().take_tcp_listener(0);
        let socket = socket.context("the socket that systemd passed is not a TCP socket")?;
        let Some(socket) = socket else {
            return Ok(None);
        };
        socket.set_nonblocking(true)?;
        Ok(Some(TcpListener::from_std(socket)?))
    }

    /// Tells systemd that the server accepts connections.
    pub(in super::super) fn ready() {
        tell(NotifyState::Ready);
    }

    /// Tells systemd that the server stops.
    pub(in super::super) fn stopping() {
        tell(NotifyState::Stopping);
    }

    fn tell(state: NotifyState<'_>) {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "cannot notify systemd");
        }
    }
}

#[cfg(not(unix))]
mod unix {
    use tokio::net::TcpListener;

    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(in super::super) fn socket() -> anyhow::Result<Option<TcpListener>> {
        Ok(None)
    }

    pub(in super::super) fn ready() {}

    pub(in super::super) fn stopping() {}
}

pub(super) use unix::{ready, socket, stopping};
