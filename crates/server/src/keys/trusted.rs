//! [`TrustedHeader`]: a header by which a proxy that signs its users in names them.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use loggia_api::Caller;
use loggia_backend::fetch_images::Network;

use super::holder::Holder;

/// The prefix of the names of such users, so that none has the name of a key.
const USER: &str = "user:";

/// The longest name of a user.
const LONGEST: usize = 128;

/// A header that names the user of a request, if the connection comes from a trusted address.
#[derive(Clone, Debug)]
pub struct TrustedHeader {
    /// The header's name, for example `x-forwarded-user`.
    pub header: HeaderName,
    /// The addresses of the proxies.
    pub peers: Vec<Network>,
}

/// Whether a name is that of a user whom a proxy names.
pub(super) fn is_user(name: &str) -> bool {
    name.starts_with(USER)
}

/// The address at the other end of a connection: an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl TrustedHeader {
    /// Returns the user that the proxy names.
    pub(super) fn user(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Option<Arc<Holder>> {
        let Peer(address) = peer?;
        let is_trusted = self.peers.iter().any(|peer| peer.contains(*address));
        // A second header may come from the client itself.
        let mut values = headers.get_all(&self.header).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let name = value.to_str().ok()?.trim();
        let is_name =
            (1..=LONGEST).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        (is_trusted && is_name).then(|| {
            let caller = Caller {
                name: format!("{USER}{name}").into(),
                strictness: None,
                models: None,
                may_delete_models: false,
                may_have_priority: false,
            };
            Arc::new(caller.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_trusted_proxy_names_users() {
        let trusted = TrustedHeader {
            header: HeaderName::from_static("x-user"),
            peers: vec!["10.0.0.0/8".parse().expect("a network")],
        };
        let user = |peer: Option<&str>, names: &[&'static str]| {
            let names = names.iter().map(|name| HeaderValue::from_static(name));
            let headers: HeaderMap = names.map(|name| (trusted.header.clone(), name)).collect();
            let peer = peer.map(|peer| Peer(peer.parse().expect("an address")));
            let user = trusted.user(&headers, peer.as_ref());
            user.map(|user| user.caller.name.to_string())
        };
        let proxy = Some("10.1.2.3");
        assert_eq!(
            user(proxy, &["alice@example.com"]).as_deref(),
            Some("user:alice@example.com")
        );
        assert_eq!(
            user(Some("::ffff:10.1.2.3"), &["bob"]).as_deref(),
            Some("user:bob")
        );
        for (peer, names) in [
            (Some("192.168.0.1"), &["alice"][..]),
            (None, &["alice"]),
            (proxy, &[]),
            (proxy, &[""]),
            (proxy, &["a b"]),
            (proxy, &["alice", "bob"]),
        ] {
            assert_eq!(user(peer, names), None, "{peer:?} {names:?}");
        }
    }
}
