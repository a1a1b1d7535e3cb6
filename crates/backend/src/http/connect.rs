//! Connects with or without TLS. One time limit covers the name lookup, TCP and TLS.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ClientConfig;
use tower::Service;

use super::resolver::{Addresses, Tcp};
use super::tls;

/// Connects with or without TLS.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    transport: Transport,
    limit: Duration,
}

/// Without root certificates, a machine can still use plain HTTP.
#[derive(Clone, Debug)]
enum Transport {
    Any(HttpsConnector<Tcp>),
    PlainOnly(Tcp),
}

/// A connection with or without TLS. Boxed, because the state of TLS takes a kilobyte that plain
/// connections do not need.
pub(super) type Stream = Box<dyn Io>;

pub(super) trait Io: Read + Write + fmt::Debug + Unpin + Send {}

impl<T: Read + Write + fmt::Debug + Unpin + Send> Io for T {}

/// The time limit for the check whether a server speaks TLS.
const LOOKED_INTO_WITHIN: Duration = Duration::from_secs(1);

/// The connection took longer than this limit.
#[derive(Debug, Error)]
#[error("no connection within {} s", .after.as_secs_f32())]
pub(super) struct ConnectTimedOut {
    pub(super) after: Duration,
}

#[derive(Debug, Error)]
#[error("https needs root certificates, which this machine does not have; install ca-certificates")]
struct NoCertificates;

/// The settings of TLS. Shared by all clients, because reading the root certificates takes a while.
/// `None` if the machine has none.
static TLS: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
    let roots = ClientConfig::builder().with_native_roots().ok()?;
    Some(Arc::new(roots.with_no_client_auth()))
});

type Connecting = BoxFuture<
    'static,
    Result<MaybeHttpsStream<TokioIo<TcpStream>>, Box<dyn StdError + Send + Sync>>,
>;

impl Connector {
    /// With an address, every connection goes to it, whatever the host of the URL; the host is the
    /// name in TLS.
    pub(super) fn new(limit: Duration, address: Option<IpAddr>) -> Self {
        let system = || Addresses::System(GaiResolver::new());
        let addresses = address.map_or_else(system, Addresses::Only);
        let mut tcp = HttpConnector::new_with_resolver(addresses);
        tcp.enforce_http(false);
        // Without this, a streamed answer waits 40 ms for a delayed acknowledgement.
        tcp.set_nodelay(true);
        let transport = match &*TLS {
            Some(tls) => Transport::Any(HttpsConnector::from((tcp, Arc::clone(tls)))),
            None => Transport::PlainOnly(tcp),
        };
        Self { transport, limit }
    }
}

impl Connector {
    /// Returns whether a server that was contacted without TLS speaks TLS. Used after a failed
    /// call, with a short time limit.
    pub(super) async fn answers_tls(&self, to: &Uri) -> bool {
        let (Transport::Any(https), true) = (&self.transport, to.scheme() == Some(&Scheme::HTTP))
        else {
            return false;
        };
        let within = self.limit.min(LOOKED_INTO_WITHIN);
        tokio::time::timeout(within, tls::answers_tls(to, https.clone()))
            .await
            .unwrap_or(false)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.transport {
            Transport::Any(https) => https.poll_ready(cx),
            Transport::PlainOnly(tcp) => tcp.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let after = self.limit;
        let connecting: Connecting = match &mut self.transport {
            Transport::Any(https) => https.call(to),
            Transport::PlainOnly(_) if to.scheme() == Some(&Scheme::HTTPS) => {
                Box::pin(std::future::ready(Err(NoCertificates.into())))
            }
            Transport::PlainOnly(tcp) => {
                let connecting = tcp.call(to);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
        };
        Box::pin(async move {
            match tokio::time::timeout(after, connecting).await {
                Ok(Ok(MaybeHttpsStream::Http(plain))) => Ok(Box::new(plain) as Stream),
                Ok(Ok(secured)) => Ok(Box::new(secured) as Stream),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(ConnectTimedOut { after }.into()),
            }
        })
    }
}
