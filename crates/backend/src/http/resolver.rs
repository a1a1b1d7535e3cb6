//! [`Addresses`]: where a connection to a host goes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::vec;

use futures_core::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

/// The addresses of a host.
#[derive(Clone, Debug)]
pub(super) enum Addresses {
    /// Those that the operating system finds.
    System(GaiResolver),
    /// This one, whatever its name: a node that is one of the addresses of a DNS name.
    Only(IpAddr),
}

/// Connects to the addresses of a host.
pub(super) type Tcp = HttpConnector<Addresses>;

impl Service<Name> for Addresses {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::System(system) => system.poll_ready(cx),
            Self::Only(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Self::System(system) => {
                let found = system.call(name);
                Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
            }
            Self::Only(address) => {
                // The connector sets the port.
                let only = vec![SocketAddr::new(*address, 0)];
                Box::pin(std::future::ready(Ok(only.into_iter())))
            }
        }
    }
}
