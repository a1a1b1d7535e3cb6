//! Connects to a target. The name is resolved once, its addresses are checked, and the connection
//! goes to a checked address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use hyper_rustls::{ConfigBuilderExt, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;

use super::refusal::Refusal;
use super::target::Target;
use super::{Limits, is_public};

/// The maximum number of addresses to try per name, one after the other.
const ADDRESSES: usize = 4;
/// The time limit per address. A machine may have an IPv6 address but no IPv6 route.
const EACH: Duration = Duration::from_millis(2500);

/// The connection of a fetch.
pub(super) type Transport = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Resolves names to addresses.
pub trait Resolve: Send + Sync {
    /// Returns the addresses of a name. Called once per connection.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0))
                .await?
                .map(|found| found.ip())
                .collect())
        })
    }
}

/// Connects to targets.
pub(super) struct Connector {
    resolver: Arc<dyn Resolve>,
    /// The TLS connector. It is initialised on first use, because most servers never fetch an
    /// image. `None` if the machine has no root certificates.
    tls: OnceCell<Option<TlsConnector>>,
}

impl Connector {
    pub(super) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            resolver,
            tls: OnceCell::new(),
        }
    }

    /// Connects to a checked address of the target.
    pub(super) async fn connect(
        &self,
        target: &Target,
        limits: &Limits,
    ) -> Result<Transport, Refusal> {
        let addresses = self.addresses(target, limits).await?;
        let tcp = first_that_answers(&addresses, target.port()).await?;
        if !target.is_https() {
            return Ok(MaybeHttpsStream::Http(TokioIo::new(tcp)));
        }
        let tls = self
            .tls
            .get_or_init(tls)
            .await
            .as_ref()
            .ok_or(Refusal::NoCertificates)?;
        let stream = tls
            .connect(server_name(target)?, TokioIo::new(TokioIo::new(tcp)))
            .await
            .map_err(|_| Refusal::Tls)?;
        Ok(MaybeHttpsStream::Https(TokioIo::new(stream)))
    }

    /// Returns the addresses of a target. One forbidden address makes the target forbidden: a
    /// legitimate name has none.
    async fn addresses(&self, target: &Target, limits: &Limits) -> Result<Vec<IpAddr>, Refusal> {
        let found = match target.address() {
            Some(address) => vec![address],
            None => self
                .resolver
                .resolve(target.host())
                .await
                .map_err(|_| Refusal::Unresolved)?,
        };
        let is_allowed = |&address: &IpAddr| {
            is_public(address)
                || limits
                    .networks
                    .iter()
                    .any(|network| network.contains(address))
        };
        match found.iter().all(is_allowed) {
            _ if found.is_empty() => Err(Refusal::Unresolved),
            true => Ok(found),
            false => Err(Refusal::NotPublic),
        }
    }
}

async fn first_that_answers(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Refusal> {
    for &address in addresses.iter().take(ADDRESSES) {
        if let Ok(Ok(tcp)) = timeout(EACH, TcpStream::connect(SocketAddr::new(address, port))).await
        {
            return Ok(tcp);
        }
    }
    Err(Refusal::Unreachable)
}

/// Returns the name that the certificate must match, which is also the SNI name.
fn server_name(target: &Target) -> Result<ServerName<'static>, Refusal> {
    match target.address() {
        Some(address) => Ok(address.into()),
        None => ServerName::try_from(target.host().to_owned()).map_err(|_| Refusal::Tls),
    }
}

/// Reads the root certificates of this machine. They are files, so this happens outside of the
/// serving threads.
async fn tls() -> Option<TlsConnector> {
    let read = || {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config
            .with_safe_default_protocol_versions()
            .ok()?
            .with_native_roots()
            .ok()?;
        Some(TlsConnector::from(Arc::new(config.with_no_client_auth())))
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}
