//! Checks URLs before any name is resolved.

use std::net::IpAddr;

use url::{Host, Url};

use super::Limits;
use super::refusal::Refusal;

/// The maximum length of a URL in bytes, which browsers and proxies agree on. Applies to redirects
/// too.
const LONGEST_URL: usize = 8 << 10;
/// The maximum length of a host name in bytes (RFC 1035).
const LONGEST_HOST: usize = 253;

/// A URL that may be fetched if its host is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// An http or https URL with a host, without credentials and fragment.
    url: Url,
    host: String,
    port: u16,
}

impl Target {
    /// Parses a URL of the client.
    pub(super) fn parse(text: &str, limits: &Limits) -> Result<Self, Refusal> {
        let url = Some(text)
            .filter(|text| text.len() <= LONGEST_URL)
            .and_then(|text| Url::parse(text).ok());
        Self::check(url.ok_or(Refusal::NoUrl)?, limits, Refusal::NoUrl)
    }

    /// Parses the location of a redirect.
    pub(super) fn redirected(&self, location: &str, limits: &Limits) -> Result<Self, Refusal> {
        let url = Some(location)
            .filter(|text| text.len() <= LONGEST_URL)
            .and_then(|text| self.url.join(text).ok());
        let next = Self::check(
            url.ok_or(Refusal::BadRedirect)?,
            limits,
            Refusal::BadRedirect,
        )?;
        if self.is_https() && !next.is_https() {
            Err(Refusal::Downgrade)
        } else {
            Ok(next)
        }
    }

    fn check(mut url: Url, limits: &Limits, no_url: Refusal) -> Result<Self, Refusal> {
        let host = url
            .host_str()
            .filter(|host| host.len() <= LONGEST_HOST)
            .map(str::to_owned);
        let (Some(host), Some(port), "http" | "https") =
            (host, url.port_or_known_default(), url.scheme())
        else {
            return Err(no_url);
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        if !limits.ports.contains(&port) {
            return Err(Refusal::Port);
        }
        url.set_fragment(None);
        Ok(Self { url, host, port })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the host as the URL has it: a name, an IPv4 address, or an IPv6 address in brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address if the host is an address, not a name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Returns the value of the `host` header. It has the port if that is not the scheme's default.
    pub(super) fn authority(&self) -> String {
        self.url
            .port()
            .map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// Returns the path and query.
    pub(super) fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, Refusal> {
        Target::parse(text, &Limits::default())
    }

    #[test]
    fn a_url_is_told_apart_into_what_a_request_needs() {
        let target = target("HTTPS://Example.COM:443/a b?q=1#part").unwrap();
        assert_eq!(
            (target.host(), target.port(), target.is_https()),
            ("example.com", 443, true)
        );
        assert_eq!(
            (target.authority().as_str(), target.path_and_query()),
            ("example.com", "/a%20b?q=1")
        );
        assert_eq!(target.address(), None);
    }

    #[test]
    fn an_address_is_an_address_however_it_is_written() {
        for written in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "①②⑦.⓪.⓪.①",
        ] {
            let target = target(&format!("http://{written}/")).unwrap();
            assert_eq!(
                target.address(),
                Some("127.0.0.1".parse().unwrap()),
                "{written}"
            );
        }
        assert_eq!(
            target("http://[::1]/").unwrap().address(),
            Some("::1".parse().unwrap())
        );
    }

    #[test]
    fn what_is_never_fetched_is_refused_before_any_name_is_looked_up() {
        assert_eq!(target("file:///etc/passwd"), Err(Refusal::NoUrl));
        assert_eq!(target("iVBORw0KGgo="), Err(Refusal::NoUrl));
        assert_eq!(target("http://"), Err(Refusal::NoUrl));
        assert_eq!(
            target(&format!("http://a/{}", "a".repeat(LONGEST_URL))),
            Err(Refusal::NoUrl)
        );
        assert_eq!(
            target(&format!("http://{}/", "a.".repeat(130))),
            Err(Refusal::NoUrl)
        );
        assert_eq!(
            target("http://user@example.com/"),
            Err(Refusal::Credentials)
        );
        assert_eq!(
            target("http://:word@example.com/"),
            Err(Refusal::Credentials)
        );
        assert_eq!(target("http://example.com:8080/"), Err(Refusal::Port));
        assert_eq!(target("http://example.com:22/"), Err(Refusal::Port));
    }

    #[test]
    fn a_redirect_is_checked_as_the_first_url_was_and_never_leaves_https() {
        let limits = Limits::default();
        let from = target("https://example.com/a/b").unwrap();
        assert_eq!(
            from.redirected("../c?d", &limits).unwrap().path_and_query(),
            "/c?d"
        );
        assert_eq!(
            from.redirected("//other.example/", &limits).unwrap().host(),
            "other.example"
        );
        assert_eq!(
            from.redirected("http://example.com/", &limits),
            Err(Refusal::Downgrade)
        );
        assert_eq!(
            from.redirected("https://u:p@example.com/", &limits),
            Err(Refusal::Credentials)
        );
        assert_eq!(
            from.redirected("https://example.com:8443/", &limits),
            Err(Refusal::Port)
        );
        assert_eq!(
            from.redirected("file:///etc/passwd", &limits),
            Err(Refusal::BadRedirect)
        );
        assert_eq!(
            from.redirected("data:image/png;base64,AA==", &limits),
            Err(Refusal::BadRedirect)
        );
    }
}
