//! [`Names`]: the addresses of the DNS names of backends.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loggia_server::Reading;

use super::{Servers, Shared, State};

/// The time limit for one lookup.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// The shortest time between two lookups.
const SHORTEST_REFRESH: Duration = Duration::from_millis(100);

/// The last known addresses of names.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Found>);

#[derive(Default)]
struct Found {
    /// The addresses of one family, sorted: a server with an address of each is one node.
    addresses: Vec<IpAddr>,
    /// Whether the last lookup failed. The addresses are those of the one before.
    is_failing: bool,
}

impl Names {
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        let found = self.0.get(name);
        found.map_or(&[], |found| &found.addresses)
    }

    /// Notes the result of a lookup. A failure changes no address.
    fn note(&mut self, name: &str, result: io::Result<Vec<IpAddr>>) {
        let found = self.0.entry(name.to_owned()).or_default();
        match result.map(of_one_family) {
            Ok(addresses) if !addresses.is_empty() => {
                if found.is_failing {
                    tracing::info!(name, "the name of a backend is resolved again");
                }
                found.is_failing = false;
                found.addresses = addresses;
            }
            failed => {
                if !found.is_failing {
                    let error = failed
                        .err()
                        .map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
                    tracing::warn!(
                        name,
                        error,
                        "the name of a backend cannot be resolved; its last addresses stay"
                    );
                }
                found.is_failing = true;
            }
        }
    }

    pub(super) fn readings(&self) -> Vec<Reading> {
        let readings = self.0.iter().flat_map(|(name, found)| {
            let addresses = u32::try_from(found.addresses.len()).unwrap_or(u32::MAX);
            [
                Reading::new(
                    "loggia_dns_up",
                    "Whether the last lookup of the DNS name of a backend succeeded.",
                    f64::from(u8::from(!found.is_failing)),
                ),
                Reading::new(
                    "loggia_dns_addresses",
                    "Addresses of the DNS name of a backend.",
                    f64::from(addresses),
                ),
            ]
            .map(|reading| reading.with("host", name.as_str()))
        });
        readings.collect()
    }
}

/// Returns the IPv4 addresses, or the IPv6 addresses if there are no others, sorted.
fn of_one_family(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        addresses.retain(IpAddr::is_ipv4);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

impl Servers {
    /// Resolves all names, for a limited time, and adds and drains nodes accordingly.
    pub(crate) async fn resolve(&self) {
        self.0.resolve().await;
    }

    /// Resolves the names again and again. It ends when the servers are dropped.
    pub(crate) fn follow_names(&self) -> impl Future<Output = ()> + Send + 'static {
        let weak = Arc::downgrade(&self.0);
        async move {
            while let Some(shared) = weak.upgrade() {
                let refresh = shared.state().settings.dns_refresh;
                drop(shared);
                tokio::time::sleep(refresh.max(SHORTEST_REFRESH)).await;
                if let Some(shared) = weak.upgrade() {
                    shared.resolve().await;
                }
            }
        }
    }
}

impl Shared {
    async fn resolve(&self) {
        let names = self.state().names();
        if names.is_empty() {
            return;
        }
        let lookups = names.iter().map(|name| async {
            let lookup = tokio::time::timeout(FOUND_WITHIN, self.resolver.resolve(name));
            lookup
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        let results = join_all(lookups).await;
        let mut state = self.state();
        for (name, result) in names.iter().zip(results) {
            state.names.note(name, result);
        }
        state.names.0.retain(|name, _| names.contains(name));
        state.sync();
    }
}

impl State {
    /// Returns the names that are resolved.
    fn names(&self) -> Vec<String> {
        let sources = self.servers.iter().flat_map(|server| &server.sources);
        let by_dns = sources.filter(|source| source.by_dns);
        let mut names: Vec<String> = by_dns
            .map(|source| source.base.host_name().to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_failed_lookup_keeps_the_last_addresses() {
        let mut names = Names::default();
        assert!(names.addresses("gpu").is_empty());
        let found = addresses(&["10.0.0.2", "10.0.0.1", "10.0.0.1", "fd00::1"]);
        names.note("gpu", Ok(found));
        let both = addresses(&["10.0.0.1", "10.0.0.2"]);
        for failed in [Err(io::ErrorKind::Other.into()), Ok(Vec::new())] {
            names.note("gpu", failed);
            assert_eq!(names.addresses("gpu"), both);
            let up = &names.readings()[0];
            assert_eq!((up.name, up.value), ("loggia_dns_up", 0.0));
        }
        names.note("gpu", Ok(addresses(&["fd00::1"])));
        assert_eq!(names.addresses("gpu"), addresses(&["fd00::1"]));
    }
}
