//! Which URLs and addresses are connected to: those that images may be fetched from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use loggia_backend::fetch_images::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::Limits;

/// Resolves names, and leaves out addresses that are not allowed. The connection goes to an address
/// that was checked.
pub(crate) struct CheckedResolver(pub(crate) Arc<Limits>);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let limits = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|found| is_allowed(found.ip(), &limits))
                .collect();
            if allowed.is_empty() {
                return Err("its address is not public".into());
            }
            let allowed: Addrs = Box::new(allowed.into_iter());
            Ok(allowed)
        })
    }
}

fn is_allowed(address: IpAddr, limits: &Limits) -> bool {
    is_public(address) || is_in_a_network(address, limits)
}

fn is_in_a_network(address: IpAddr, limits: &Limits) -> bool {
    limits
        .networks
        .iter()
        .any(|network| network.contains(address))
}

/// Checks the URL of a server. Host names are checked again when they are resolved.
///
/// # Errors
///
/// A message for the client that says what is wrong.
pub(crate) async fn check(url: &str, limits: &Limits) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|_| "Its URL is not valid.".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("Its URL must begin with http:// or https://.".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Its URL must not have a user name; send 'authorization'.".to_owned());
    }
    let port = url.port_or_known_default().unwrap_or_default();
    let has_port = limits.ports.contains(&port);
    let is_reachable = match url.host() {
        Some(Host::Ipv4(address)) => is_reachable(address.into(), has_port, limits),
        Some(Host::Ipv6(address)) => is_reachable(address.into(), has_port, limits),
        // The resolver checks the addresses; only the port is checked here.
        Some(Host::Domain(_)) if has_port => true,
        Some(Host::Domain(name)) => tokio::net::lookup_host((name, 0))
            .await
            .is_ok_and(|mut found| found.all(|found| is_in_a_network(found.ip(), limits))),
        None => return Err("Its URL has no host.".to_owned()),
    };
    if is_reachable {
        Ok(url)
    } else {
        Err("Its address or its port is not allowed: only public addresses and the ports 80 and 443 are, \
             and the networks in the setting images.networks."
            .to_owned())
    }
}

fn is_reachable(address: IpAddr, has_port: bool, limits: &Limits) -> bool {
    is_in_a_network(address, limits) || has_port && is_public(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_public_addresses_and_the_networks_of_the_setting_are_allowed() {
        let none = Limits::default();
        for refused in [
            "http://127.0.0.1/mcp",
            "http://[::1]/mcp",
            "http://10.0.0.7/mcp",
            "http://169.254.169.254/latest",
            "http://[::ffff:127.0.0.1]/mcp",
            "https://8.8.8.8:22/",
            "http://localhost:8000/mcp",
            "ftp://8.8.8.8/",
            "https://user@8.8.8.8/",
            "nonsense",
        ] {
            assert!(check(refused, &none).await.is_err(), "{refused}");
        }
        assert!(check("https://8.8.8.8/mcp", &none).await.is_ok());
        let own = Limits {
            networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..Limits::default()
        };
        assert!(check("http://127.0.0.1:8000/mcp", &own).await.is_ok());
        assert!(check("http://10.0.0.7/mcp", &own).await.is_err());
    }
}
