//! Checks whether the `Host` of a request can be a name that an attacker controls.
//!
//! A web page can make its own host name resolve to this machine (DNS rebinding). The browser then
//! treats this server as the page's own: it sends no `Origin` with a GET, and lets the page read
//! the answer. Only the `Host` of such a request shows that it comes from a page.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

/// The endings of names that cannot be registered: local networks and containers use them.
const LOCAL: [&str; 7] = [
    "localhost",
    "local",
    "internal",
    "lan",
    "home.arpa",
    "test",
    "localdomain",
];

/// Returns whether the request has a host name that anybody could register. IP addresses, names
/// without a dot (`localhost`, a container) and names of local networks cannot be registered.
pub(crate) fn is_public_name(parts: &Parts) -> bool {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = header.or(parts.uri.authority().map(Authority::as_str)) else {
        return false;
    };
    let host = match authority.parse::<Authority>() {
        Ok(authority) => authority.host().to_ascii_lowercase(),
        // A name that cannot be parsed counts as public.
        Err(_) => return true,
    };
    let name = host.trim_end_matches('.');
    let is_address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
    let is_local = |ending: &&str| {
        name.strip_suffix(*ending)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    !is_address && name.contains('.') && !LOCAL.iter().any(is_local)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_public(host: &str) -> bool {
        let request = Request::get("/v1/conversations/conv_1").header(HOST, host);
        is_public_name(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn names_that_anybody_can_register_are_public_and_no_others() {
        for host in [
            "localhost",
            "localhost:11435",
            "LOCALHOST.",
            "127.0.0.1:11435",
            "192.168.1.7",
            "[::1]:11435",
            "loggia:11435",
            "gpu.local",
            "gpu.home.arpa:80",
            "host.docker.internal:11435",
            "a.localhost",
        ] {
            assert!(!is_public(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:11435",
            "localhost.evil.example",
            "notlocal.notinternal.com",
            "127.0.0.1.nip.io",
            "a b.example",
        ] {
            assert!(is_public(host), "{host}");
        }
        let none = Request::get("/v1/conversations/conv_1").body(()).unwrap();
        assert!(!is_public_name(&none.into_parts().0));
    }
}
