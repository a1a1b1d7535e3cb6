//! Whether a request comes from a person at this machine: for the routes of the admin API on a server
//! without API keys.

use http::header::{FORWARDED, HOST, ORIGIN, VIA};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request};

use crate::keys::trusted::Peer;
use crate::{Keys, cors};

/// The headers that a proxy adds: behind one, every client has the address of the proxy.
const BY_PROXIES: [HeaderName; 4] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Returns whether the client is on this machine, and is neither a proxy nor a web page that lets
/// its own host name resolve to this machine.
fn is_of_this_machine<B>(request: &Request<B>) -> bool {
    let peer = request.extensions().get::<Peer>();
    let is_near = peer.is_some_and(|peer| peer.0.to_canonical().is_loopback());
    let headers = request.headers();
    let is_forwarded = BY_PROXIES.iter().any(|name| headers.contains_key(name));
    let has_own_name = headers.get(HOST).is_some_and(is_name_of_this_machine);
    let mut origins = headers.get_all(ORIGIN).iter();
    is_near && !is_forwarded && has_own_name && origins.all(cors::is_of_this_machine)
}

/// Returns whether the admin API is open to this client without a key: on a server that has none, and
/// needs none.
pub(crate) fn is_open_to<B>(keys: &Keys, request: &Request<B>) -> bool {
    !keys.have_any() && !keys.are_required() && is_of_this_machine(request)
}

fn is_name_of_this_machine(host: &HeaderValue) -> bool {
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    let name = host.map(|host: Authority| host.host().to_ascii_lowercase());
    matches!(name.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(peer: Option<&str>, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::get("/admin/live");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        }
        is_of_this_machine(&request)
    }

    #[test]
    fn only_a_person_at_this_machine_is_of_it() {
        let here = Some("127.0.0.1");
        for host in [
            "localhost:11435",
            "127.0.0.1:11435",
            "[::1]:11435",
            "LOCALHOST",
        ] {
            assert!(is_local(here, &[("host", host)]), "{host}");
        }
        assert!(is_local(Some("::ffff:127.0.0.1"), &[("host", "localhost")]));
        let page = ("origin", "http://localhost:11435");
        assert!(is_local(here, &[("host", "localhost:11435"), page]));
        for (peer, headers) in [
            (None, &[("host", "localhost")][..]),
            (Some("10.0.0.7"), &[("host", "localhost")]),
            (here, &[]),
            (here, &[("host", "gpu.example")]),
            (here, &[("host", "localhost.evil.example")]),
            (
                here,
                &[("host", "localhost"), ("x-forwarded-for", "10.0.0.7")],
            ),
            (
                here,
                &[("host", "localhost"), ("forwarded", "for=10.0.0.7")],
            ),
            (here, &[("host", "localhost"), ("via", "1.1 proxy")]),
            (
                here,
                &[("host", "localhost"), ("origin", "https://evil.example")],
            ),
            (here, &[("host", "localhost"), page, ("origin", "null")]),
        ] {
            assert!(!is_local(peer, headers), "{peer:?} {headers:?}");
        }
    }
}
